"""How long each arm took: to read the context, to the first token, for every further one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from gistbench.metrics import format_seconds
from gistbench.records import NotMeasured, Timing
from gistbench.report.evidence import Evidence, Samples
from gistbench.report.latency import Latency, LatencyCurve, LatencyPanel
from gistbench.report.quantiles import quantile, values_needed
from gistbench.report.sections.columns import main_arms
from gistbench.report.sections.figures import absent, batch_timings
from gistbench.report.sections.tables import TableRow, metric_table
from gistbench.report.shown import Figure

MAX_POINTS = 100
PERCENTILES = (0.5, 0.9, 0.95, 0.99)
CAPTION = "Times of batches, with 95 % intervals of the percentiles"


def _decode_step(timing: Timing) -> float | None:
    return timing.decode_seconds / timing.decode_steps if timing.decode_steps > 0 else None


QUANTITIES: dict[str, tuple[Callable[[Timing], float | None], str]] = {
    "read the context (prefill)": (
        lambda timing: timing.compress_seconds,
        "this arm reads no context of its own",
    ),
    "question to first token": (
        lambda timing: timing.first_token_seconds,
        "no samples were answered",
    ),
    "each further token": (_decode_step, "no answer was longer than one token"),
}
"""What is timed, how to find it, and why it may be missing although batches were timed."""


def latency(evidence: Evidence) -> Latency | None:
    """Distributions at the length at which criteria are judged; None where nothing was answered."""
    arms = {name: evidence.judged_samples(name) for name in main_arms(evidence)}
    arms = {name: samples for name, samples in arms.items() if samples}
    if not arms:
        return None
    panels, groups, sentences, notes = [], [], [], _notes(evidence, arms)
    for quantity, (find, missing) in QUANTITIES.items():
        times = {name: _times(samples, find) for name, samples in arms.items()}
        curves = [_curve(name, found) for name, found in times.items() if found]
        if curves:
            panels.append(LatencyPanel(quantity=quantity, curves=tuple(curves)))
            middles = (
                f"{name} {format_seconds(median(found))}" for name, found in times.items() if found
            )
            sentences.append(f"Median, {quantity}: {', '.join(middles)}.")
        rows: list[TableRow] = [(name, _cells(found), "") for name, found in times.items() if found]
        if rows:
            groups.append((quantity, rows))
        absent_from: dict[str, list[str]] = {}
        for name, found in times.items():
            if not found:
                absent_from.setdefault(_reason(arms[name], missing), []).append(name)
        for reason, names in absent_from.items():
            notes.append(f"NOT MEASURED, {quantity}: {', '.join(names)}. Reason: {reason}.")
    columns = ["batches", "shortest", *(f"p{100 * share:g}" for share in PERCENTILES), "longest"]
    return Latency(
        panels=tuple(panels),
        table=metric_table(CAPTION, columns, groups),
        notes=tuple(notes),
        summary=" ".join(sentences),
    )


def _times(samples: Samples, find: Callable[[Timing], float | None]) -> list[float]:
    found = (find(timing) for timing in batch_timings(samples))
    return sorted(seconds for seconds in found if seconds is not None)


def _reason(samples: Samples, missing: str) -> str:
    """Why an arm has no times: what its samples say, else what the quantity says."""
    untimed = (s.timing.not_measured for s in samples if isinstance(s.timing, NotMeasured))
    return next(untimed, missing)


def _curve(arm: str, times: Sequence[float]) -> LatencyCurve:
    n = len(times)
    step = max(1, -(-n // MAX_POINTS))
    places = sorted({0, n - 1, *range(0, n, step)})
    return LatencyCurve(
        arm=arm,
        seconds=tuple(times[place] for place in places),
        shares=tuple((place + 1) / n for place in places),
    )


def _cells(times: Sequence[float]) -> list[Figure]:
    n = len(times)

    def exact(value: float) -> Figure:
        return Figure(value=value, n=n, text=format_seconds(value))

    return [
        Figure(value=n, n=n, text=f"{n:,}"),
        exact(times[0]),
        *(_percentile(times, share) for share in PERCENTILES),
        exact(times[-1]),
    ]


def _percentile(times: Sequence[float], share: float) -> Figure:
    found = quantile(times, share)
    if found is None:
        return absent(f"p{100 * share:g} needs {values_needed(share):,} timed batches")
    return Figure(
        value=found.value,
        low=found.low,
        high=found.high,
        n=found.n,
        text=format_seconds(found.value),
        detail=f"{format_seconds(found.low)} to {format_seconds(found.high)}",
    )


def _notes(evidence: Evidence, arms: dict[str, Samples]) -> list[str]:
    """What a time is and which percentiles are shown; nothing where no batch was timed."""
    sizes = {timing.batch_size for samples in arms.values() for timing in batch_timings(samples)}
    if not sizes:
        return []
    needed = ", ".join(f"p{100 * q:g} from {values_needed(q):,}" for q in PERCENTILES)
    low, high = min(sizes), max(sizes)
    batch = f"{high:,} sample{'' if high == 1 else 's'}"
    if low < high:
        batch = f"{low:,} to {high:,} samples"
    return [
        f"Each time is that of one batch of {batch} at {evidence.judged_tokens:,} context tokens, "
        "all tasks together. Batches ran one after the other, not interleaved between arms: the "
        "throughput criterion above is the comparison of speed.",
        "A percentile is shown where the batches are enough for both ends of its 95 % interval "
        f"(order statistics, batches taken as independent): {needed}.",
    ]
