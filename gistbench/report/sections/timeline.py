"""Memory over time, thinned to what a chart can show without losing a peak."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gistbench.metrics import METRICS
from gistbench.records import ArmRecord, MemoryRecord, NotMeasured, Phase
from gistbench.report.card import MemoryLayer, MemoryTrack, PhaseSpan
from gistbench.report.evidence import Evidence
from gistbench.report.sections.columns import main_arms
from gistbench.report.sections.figures import PHASE_SOURCES

MAX_POINTS = 240

DEVICE_LAYERS = tuple(name for name in PHASE_SOURCES if name != "resident_bytes")


def memory_tracks(evidence: Evidence) -> tuple[MemoryTrack, ...]:
    """One track per main arm that left readings, in the order of the arms."""
    ticks = ((arm.name, evidence.memory.get(arm.name, ())) for arm in evidence.run.arms)
    main = main_arms(evidence)
    return tuple(_track(name, found) for name, found in ticks if found and name in main)


def _track(arm: str, ticks: Sequence[MemoryRecord]) -> MemoryTrack:
    bins = list(_binned(ticks))
    layers, words = [], []
    for name in PHASE_SOURCES:
        values = tuple(_peak([getattr(tick, name) for tick in found]) for found in bins)
        if (peak := _peak(values)) is not None:
            layers.append(MemoryLayer(name=name, label=METRICS[name].label, values=values))
            words.append(f"{METRICS[name].label} up to {METRICS[name].format(peak)}")
    duration = METRICS["compress_seconds"].format(ticks[-1].seconds)
    return MemoryTrack(
        arm=arm,
        seconds=tuple(round(found[-1].seconds, 3) for found in bins),
        layers=tuple(layers),
        phases=tuple(_spans(bins)),
        summary=f"Arm {arm}, {duration}: {'; '.join(words) or 'no readings'}.",
    )


def _binned(ticks: Sequence[MemoryRecord]) -> Iterator[Sequence[MemoryRecord]]:
    """Ticks in at most `MAX_POINTS` groups of neighbours."""
    width = -(-len(ticks) // MAX_POINTS)
    return (ticks[start : start + width] for start in range(0, len(ticks), width))


def _peak(values: Sequence[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _spans(bins: Sequence[Sequence[MemoryRecord]]) -> Iterator[PhaseSpan]:
    """Neighbouring groups in the same phase, joined; a group counts as the phase it ends in."""
    start, current = 0.0, None
    for found in bins:
        phase: Phase = found[-1].phase
        if current is not None and phase != current:
            yield PhaseSpan(phase=current, start=start, end=round(found[0].seconds, 3))
            start = round(found[0].seconds, 3)
        current = phase
    if current is not None:
        yield PhaseSpan(phase=current, start=start, end=round(bins[-1][-1].seconds, 3))


def memory_notes(arms: Sequence[ArmRecord], tracks: Sequence[MemoryTrack]) -> tuple[str, ...]:
    """Which sources exist in this run, and why the others do not."""
    if not tracks:
        return ("No memory readings: the run left no memory.jsonl with ticks of its arms.",)
    seen = {layer.name for track in tracks for layer in track.layers}
    sentences: list[str] = []
    missing: dict[str, list[str]] = {}
    if not seen.intersection(DEVICE_LAYERS):
        sentences.append("Host memory is shown, since there is no device memory to read.")
    for name, field in PHASE_SOURCES.items():
        if name not in seen:
            missing.setdefault(_reason(arms, field), []).append(METRICS[name].label)
    for reason, labels in missing.items():
        sentences.append(f"NOT MEASURED: {', '.join(labels)}. Reason: {reason}.")
    if {"torch_allocated_bytes", "device_used_bytes"} <= seen:
        sentences.append(
            "NVML's device figure includes the CUDA context and the caching allocator, torch's "
            "allocated figure neither."
        )
    return tuple(sentences)


def _reason(arms: Sequence[ArmRecord], field: str) -> str:
    for arm in arms:
        for phase in arm.phases:
            found: int | NotMeasured = getattr(phase, field)
            if isinstance(found, NotMeasured):
                return found.not_measured.rstrip(".")
    return "the sampler left no reading"
