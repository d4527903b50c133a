"""`gistbench speed savings`: what gists buy, part by part, written down as each is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from gistbench.config import Quantization
from gistbench.core.footprint import Architecture
from gistbench.errors import UsageError
from gistbench.metrics import format_bytes
from gistbench.models.manifest import find_checkpoint, read_manifest
from gistbench.models.random_weights import architecture_config
from gistbench.records import NotMeasured
from gistbench.speed.budget import AnsweredContexts, StoredContexts
from gistbench.speed.filling import NothingFitsError, fill
from gistbench.speed.meter import Meter
from gistbench.speed.phases import ARMS, measure_phases
from gistbench.speed.rates import measure_rates
from gistbench.speed.records import Rates
from gistbench.speed.run import about, described_base
from gistbench.speed.savings_records import (
    Arm,
    BudgetRounds,
    Filled,
    Part,
    PrecisionSavings,
    Probe,
    SavingsRecord,
)
from gistbench.speed.savings_settings import SavingsConfig
from gistbench.speed.subject import Subject, let_go
from gistbench.storage import check_writable, only_process, read_json, write_json

SAVINGS_FILE = "savings.json"

Say = Callable[[str], None]


def measure_savings(
    settings: SavingsConfig,
    folder: Path,
    *,
    device: Literal["cpu", "cuda"],
    command: str,
    say: Say = lambda _: None,
) -> SavingsRecord:
    """Measure what is not measured yet, and write `savings.json` after each part.

    The same settings in the same folder go on where an earlier call stopped. Other parts or
    precisions of the same settings join what is there.

    Args:
        settings: What to measure.
        folder: Of the record.
        device: Where.
        command: For the record.
        say: Told what is being done.

    Raises:
        UsageError: The folder holds a measurement of other settings, the budget is below the
            weights, or the model has too few positions.
        GistbenchError: A model cannot be had.
    """
    check_writable(folder)
    with only_process(folder):
        place = "cuda:0" if device == "cuda" else "cpu"
        meter = Meter.open(place)
        try:
            _require_budget(settings)
            return _measure(settings, folder, place, meter, command, say)
        finally:
            meter.close()


def _measure(
    settings: SavingsConfig, folder: Path, place: str, meter: Meter, command: str, say: Say
) -> SavingsRecord:
    file = folder / SAVINGS_FILE
    start = about(settings, command, place) | {"checkpoint_sha256": _adapter(settings)}
    record = read_json(file, SavingsRecord) if file.exists() else None
    if record is not None:
        _require_alike(record, start, file)
    rates: Rates | None = None
    for quantization in settings.precisions:
        done = _of(record, quantization)
        missing = [part for part in settings.wanted if _is_missing(done, part, place)]
        if not missing:
            continue
        if rates is None:
            say("measuring the device's own rates")
            rates = measure_rates(place, getattr(torch, settings.dtype))
            if record is not None:
                rates = _better(rates, record.rates)
                record = record.model_copy(update={"rates": rates})
        say(f"loading, quantization {quantization}")
        subject = Subject.load(settings, quantization, rates, place)
        let_go(place)
        if done is None:
            done = PrecisionSavings(
                quantization=quantization,
                weights_bytes=meter.allocated(),
                adapter_bytes=subject.adapter_bytes,
            )
        if record is None:
            record = SavingsRecord(
                **start,
                base=described_base(subject.loaded),
                rates=rates,
                budget_counts=meter.counts,
            )
        for part in missing:
            done = measure_part(subject, meter, part, done, say)
            others = [p for p in record.precisions if p.quantization != quantization]
            together = sorted((*others, done), key=lambda p: ("none", "nf4").index(p.quantization))
            record = record.model_copy(
                update={"precisions": tuple(together), "settings": _joined(record, settings)}
            )
            write_json(file, record)
        del subject
        let_go(place)
    assert record is not None
    return record


def measure_part(
    subject: Subject, meter: Meter, part: Part, done: PrecisionSavings, say: Say = lambda _: None
) -> PrecisionSavings:
    """One part at one precision, added to what is there."""
    say(f"{part}, {subject.quantization}")
    if part == "phases":
        key_values, phases, skipped = measure_phases(subject, meter)
        return done.model_copy(
            update={"key_values": key_values, "phases": phases, "skipped": skipped}
        )
    if part == "throughput":
        return done.model_copy(update={"throughput": _throughput(subject, meter, done.answered)})
    return done.model_copy(update={part: _filled(subject, meter, part, say)})


def _filled(
    subject: Subject, meter: Meter, part: Part, say: Say
) -> tuple[Filled, ...] | NotMeasured:
    """The budget, filled by each arm."""
    found = []
    for arm in ARMS:
        device = _device(subject, meter, part, arm)
        if isinstance(device, NotMeasured):
            return device

        def tell(probe: Probe, arm: Arm = arm) -> None:
            say(f"{part}, {arm}, {subject.quantization}: {probe.contexts} {probe.outcome}")

        settings = subject.settings
        try:
            filled = fill(
                device, arm, tolerance=settings.tolerance, most=settings.most_contexts, say=tell
            )
        except NothingFitsError as error:
            return NotMeasured(not_measured=str(error))
        found.append(filled)
    return tuple(found)


def _device(
    subject: Subject, meter: Meter, part: Part, arm: Arm
) -> StoredContexts | AnsweredContexts | NotMeasured:
    kind = StoredContexts if part == "stored" else AnsweredContexts
    available = meter.available()
    if isinstance(available, NotMeasured):
        return available
    return kind(subject, arm, meter, subject.settings.budget_bytes, available)


def _throughput(
    subject: Subject, meter: Meter, answered: tuple[Filled, ...] | NotMeasured | None
) -> tuple[BudgetRounds, ...] | NotMeasured:
    """Each arm's fastest batch again, both in turn."""
    if isinstance(answered, NotMeasured):
        return answered
    assert answered is not None
    rows = {filled.arm: fastest(filled) for filled in answered}
    question: dict[Arm, list[float]] = {arm: [] for arm in ARMS}
    decode: dict[Arm, list[float]] = {arm: [] for arm in ARMS}
    for number in range(subject.settings.rounds):
        for arm in ARMS if number % 2 else ARMS[::-1]:
            device = _device(subject, meter, "answered", arm)
            if isinstance(device, NotMeasured):
                return device
            probe = device.probe(rows[arm])
            if probe.question_seconds is None or probe.decode_seconds is None:
                return NotMeasured(
                    not_measured=f"{rows[arm]} contexts of {arm} were answered within the budget, "
                    "and no longer fitted when they were to be timed"
                )
            question[arm].append(probe.question_seconds)
            decode[arm].append(probe.decode_seconds)
    floors = {arm: subject.decode_floor(arm, rows[arm]) for arm in ARMS}
    return tuple(
        BudgetRounds(
            arm=arm,
            contexts=rows[arm],
            question_seconds=tuple(question[arm]),
            decode_seconds=tuple(decode[arm]),
            steps=subject.settings.new_tokens,
            floor_seconds=floors[arm].seconds,
            unpacked_parameters=floors[arm].unpacked_parameters,
        )
        for arm in ARMS
    )


def fastest(filled: Filled) -> int:
    """Contexts of the batch that fitted and gave most tokens a second."""
    timed = [
        (probe.contexts / probe.decode_seconds, probe.contexts)
        for probe in filled.probes
        if probe.outcome == "fits" and probe.contexts <= filled.fits and probe.decode_seconds
    ]
    return max(timed)[1]


def _is_missing(done: PrecisionSavings | None, part: Part, place: str) -> bool:
    """Not there yet, or not measured where another try may measure it."""
    found = getattr(done, part) if done is not None else None
    return found is None or (isinstance(found, NotMeasured) and place != "cpu")


def _adapter(settings: SavingsConfig) -> str | None:
    if settings.checkpoint is None:
        return None
    return read_manifest(find_checkpoint(settings.checkpoint)).adapter_sha256


def _of(record: SavingsRecord | None, quantization: Quantization) -> PrecisionSavings | None:
    found = record.precisions if record is not None else ()
    return next((item for item in found if item.quantization == quantization), None)


def _better(now: Rates, before: Rates) -> Rates:
    """What the device did at best in either process: a floor that it undercut would be none."""
    fastest = ("matrix_operations_per_second", "copy_bytes_per_second")
    return now.model_copy(
        update={name: max(getattr(now, name), getattr(before, name)) for name in fastest}
    )


def _joined(record: SavingsRecord, settings: SavingsConfig) -> dict[str, Any]:
    """The settings, with all parts and precisions that the record holds by now."""
    fields = settings.model_dump(mode="json")
    for name in JOINING:
        fields[name] = list(dict.fromkeys((*record.settings[name], *fields[name])))
    return fields


JOINING = ("parts", "quantizations")
"""Settings that choose among what can be measured, and change none of it."""


def _require_alike(record: SavingsRecord, start: dict[str, Any], file: Path) -> None:
    before, now = (
        {key: value for key, value in settings.items() if key not in JOINING}
        for settings in (record.settings, start["settings"])
    )
    changed = sorted(key for key in now if before.get(key) != now[key])
    here, there = start["provenance"], record.provenance
    for name in ("torch", "transformers"):
        if here.packages.get(name) != there.packages.get(name):
            changed.append(name)
    if start["checkpoint_sha256"] != record.checkpoint_sha256:
        changed.append("checkpoint")
    if here.device_name != there.device_name:
        changed = ["device"]
    if changed:
        raise UsageError(
            f"{file} was measured with another {' and '.join(changed)}; repeat those settings to "
            "go on with it, or name another --output"
        )


def _require_budget(settings: SavingsConfig) -> None:
    """Refuse a budget below the smallest weights, before anything is loaded.

    Raises:
        UsageError: With both sizes.
    """
    if settings.weights == "real" or not {"stored", "answered"} & set(settings.parts):
        return
    config = architecture_config(settings.base or "llama-3-8b", revision=settings.revision)
    sizes = Architecture.of(config.to_dict())
    least = min(sizes.weights_bytes(settings.dtype, name) for name in settings.precisions)
    if least > settings.budget_bytes:
        raise UsageError(
            f"--budget-gib {settings.budget_gib:g} is below the weights alone, "
            f"{format_bytes(least)}; pass a larger one, --quantizations nf4, or --parts phases"
        )
