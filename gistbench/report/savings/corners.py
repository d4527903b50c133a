"""The quantities that gists and NF4 may save, each in four corners: two precisions, two arms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from gistbench.metrics import format_bytes, format_count, format_rate, format_seconds
from gistbench.records import NotMeasured, Quantity
from gistbench.speed.savings_records import (
    Arm,
    BudgetRounds,
    Filled,
    PhaseCost,
    PrecisionSavings,
    SavingsPhase,
    SavingsRecord,
)

Corner = tuple[str, Arm]
"""Quantisation and arm."""

ARMS: tuple[Arm, ...] = ("full", "gist")


@dataclass(slots=True)
class Saved:
    """One quantity wherever it was measured.

    Attributes:
        label: As it is shown.
        better: What is wanted: less of a cost, more of a rate or of contexts.
        form: How a value is written.
        values: At each corner.
        floors: What a cost cannot fall below, what a rate or a number cannot exceed.
        rounds: Of paired timing rounds, of what is `better`'s sense.
        brackets: Of counts that were found by trying: what fitted, and what did not.
    """

    label: str
    better: Literal["less", "more"]
    form: Callable[[float], str]
    values: dict[Corner, Quantity] = field(default_factory=dict)
    floors: dict[Corner, Quantity] = field(default_factory=dict)
    rounds: dict[Corner, tuple[float, ...]] = field(default_factory=dict)
    brackets: dict[Corner, tuple[int, int | None]] = field(default_factory=dict)


def quantities(record: SavingsRecord) -> Iterator[Saved]:
    """All of them, in the order of the page."""
    yield _key_values(record)
    sizes = [int(size) for size in record.settings["contexts"]]
    for size in sizes:
        yield _steady(record, size)
    yield _timed(record, "compress", 1, "read a context")
    for size in sizes:
        yield _timed(record, "question", size, f"read the questions of {number_of(size)}")
    for size in sizes:
        yield _timed(record, "decode", size, f"a decoding step of {number_of(size)}")
    for size in sizes:
        yield _energy(record, size)
    yield _filled(record, "stored", "contexts stored within the budget")
    yield _filled(record, "answered", "contexts answered at once within the budget")
    yield _rate(record)


def number_of(number: int) -> str:
    """So many contexts, in words."""
    return f"{number:,} context{'s' if number != 1 else ''}"


def _key_values(record: SavingsRecord) -> Saved:
    saved = Saved("keys and values of a context", "less", format_bytes)
    for precision in record.precisions:
        for item in precision.key_values:
            corner = (precision.quantization, item.arm)
            saved.values[corner] = item.measured_bytes
            saved.floors[corner] = item.predicted_bytes
    return saved


def phase_of(
    precision: PrecisionSavings, arm: Arm, phase: SavingsPhase, contexts: int
) -> PhaseCost | None:
    """One phase of one arm, if it was measured."""
    for cost in precision.phases or ():
        if (cost.arm, cost.phase, cost.contexts) == (arm, phase, contexts):
            return cost
    return None


def _phases(
    record: SavingsRecord, phase: SavingsPhase, contexts: int
) -> Iterator[tuple[Corner, PhaseCost]]:
    for precision in record.precisions:
        for arm in ARMS:
            cost = phase_of(precision, arm, phase, contexts)
            if cost is not None:
                yield (precision.quantization, arm), cost


def _steady(record: SavingsRecord, size: int) -> Saved:
    saved = Saved(f"allocated with {number_of(size)} held", "less", format_bytes)
    for corner, cost in _phases(record, "steady", size):
        saved.values[corner] = cost.torch_allocated_bytes
        saved.floors[corner] = cost.floor_bytes
    return saved


def _timed(record: SavingsRecord, phase: SavingsPhase, size: int, label: str) -> Saved:
    saved = Saved(label, "less", format_seconds)
    for corner, cost in _phases(record, phase, size):
        steps = cost.steps or 1
        floor = cost.floor_seconds
        saved.floors[corner] = floor if isinstance(floor, NotMeasured) else floor / steps
        if cost.round_seconds:
            saved.rounds[corner] = tuple(seconds / steps for seconds in cost.round_seconds)
            saved.values[corner] = median(saved.rounds[corner])
        else:
            saved.values[corner] = NotMeasured(
                not_measured="both arms at once, whose times alternate, did not fit"
            )
    return saved


def _energy(record: SavingsRecord, size: int) -> Saved:
    saved = Saved(f"energy of an answered token, {number_of(size)}", "less", _joules)
    for corner, decode in _phases(record, "decode", size):
        question = dict(_phases(record, "question", size)).get(corner)
        parts = [decode.joules, question.joules if question else decode.joules]
        missing = [part for part in parts if isinstance(part, NotMeasured)]
        tokens = size * (decode.steps + 1)
        total = sum(part for part in parts if not isinstance(part, NotMeasured))
        saved.values[corner] = missing[0] if missing else total / tokens
    return saved


def _joules(value: float) -> str:
    return f"{value:.3g} J"


def _filled(record: SavingsRecord, part: Literal["stored", "answered"], label: str) -> Saved:
    saved = Saved(label, "more", format_count)
    for precision in record.precisions:
        found: tuple[Filled, ...] | NotMeasured | None = getattr(precision, part)
        for arm in ARMS:
            corner = (precision.quantization, arm)
            if isinstance(found, NotMeasured):
                saved.values[corner] = found
        for filled in found if isinstance(found, tuple) else ():
            corner = (precision.quantization, filled.arm)
            saved.values[corner] = filled.fits
            saved.brackets[corner] = (filled.fits, filled.fails)
            live = 0
            if part == "answered":
                live = record.settings["question_tokens"] + record.settings["new_tokens"]
            for item in precision.key_values:
                if item.arm == filled.arm:
                    # Bytes of one more context: the number that fits is inverse to them.
                    per_slot = item.predicted_bytes / item.slots
                    saved.floors[corner] = 1 / (item.predicted_bytes + live * per_slot)
    return saved


def _rate(record: SavingsRecord) -> Saved:
    saved = Saved("tokens a second within the budget", "more", format_rate)
    for precision in record.precisions:
        found = precision.throughput
        if isinstance(found, NotMeasured):
            saved.values.update({(precision.quantization, arm): found for arm in ARMS})
            continue
        for side in found or ():
            corner = (precision.quantization, side.arm)
            saved.rounds[corner] = rates_of(side)
            saved.values[corner] = median(saved.rounds[corner])
            floor = side.floor_seconds
            saved.floors[corner] = (
                floor if isinstance(floor, NotMeasured) else side.contexts * side.steps / floor
            )
    return saved


def rates_of(side: BudgetRounds) -> tuple[float, ...]:
    """Tokens a second of each round, steps alone."""
    return tuple(side.contexts * side.steps / seconds for seconds in side.decode_seconds)
