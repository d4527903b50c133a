"""What each phase costs, both arms: memory of each alone, times in rounds that alternate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch

from gistbench.models.memory import began_out_of_memory
from gistbench.records import Count, NotMeasured, Quantity
from gistbench.speed.budget import load
from gistbench.speed.floors import Floor
from gistbench.speed.held import HeldBatch, block, places_in
from gistbench.speed.meter import Memory, Meter
from gistbench.speed.savings_records import Arm, KeyValues, PhaseCost, SavingsPhase
from gistbench.speed.subject import Subject, let_go

ARMS: tuple[Arm, ...] = ("full", "gist")
NO_ENERGY = NotMeasured(not_measured="energy was not asked for (--energy-seconds 0)")

Key = tuple[Arm, SavingsPhase, int]
"""Arm, phase, contexts."""


@dataclass(slots=True)
class Costs:
    """What is known of each phase so far.

    Attributes:
        memory: Peaks; of the steady state, while nothing runs.
        joules: Of one phase.
        seconds: Of each round.
        key_values: Of each arm.
        skipped: What did not fit, in words.
    """

    memory: dict[Key, Memory] = field(default_factory=dict)
    joules: dict[Key, Quantity] = field(default_factory=dict)
    seconds: dict[Key, list[float]] = field(default_factory=dict)
    key_values: dict[Arm, KeyValues] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def measure_phases(
    subject: Subject, meter: Meter
) -> tuple[tuple[KeyValues, ...], tuple[PhaseCost, ...], tuple[str, ...]]:
    """Memory and energy of each arm alone, then times of both in turn.

    What does not fit on the device is skipped, in words.
    """
    costs = Costs()
    for arm in ARMS:
        with subject.weights_of(arm):
            costs.key_values[arm] = _key_values(subject, arm)
            _compress_alone(subject, arm, meter, costs)
            for contexts in subject.settings.sizes:
                _or_skipped(
                    costs,
                    f"{contexts} contexts of {arm} alone",
                    subject,
                    partial(_held_alone, subject, arm, contexts, meter, costs),
                )
    for contexts in subject.settings.sizes:
        _or_skipped(
            costs,
            f"{contexts} contexts of both arms at once, whose times alternate,",
            subject,
            partial(_in_turn, subject, contexts, costs),
        )
    keys = dict.fromkeys((*costs.memory, *costs.seconds))
    found = tuple(_cost(subject, key, costs) for key in sorted(keys, key=_order))
    return tuple(costs.key_values.values()), found, tuple(costs.skipped)


def _order(key: Key) -> tuple[int, int, int]:
    names = ("compress", "steady", "question", "decode")
    return names.index(key[1]), key[2], ARMS.index(key[0])


def _or_skipped(costs: Costs, what: str, subject: Subject, work: Callable[[], None]) -> None:
    try:
        work()
    except RuntimeError as error:
        if not began_out_of_memory(error):
            raise
        costs.skipped.append(f"{what} do not fit on this GPU")
    let_go(subject.device)


def _key_values(subject: Subject, arm: Arm) -> KeyValues:
    """Of one context that is read as a run reads it."""
    cache = subject.read(arm)
    per_token = subject.sizes.key_value_bytes_per_token(subject.settings.dtype)
    return KeyValues(
        arm=arm,
        slots=cache.num_slots,
        predicted_bytes=subject.slots(arm) * per_token,
        measured_bytes=cache.num_bytes,
        allocated_bytes=NotMeasured(not_measured="no contexts could be held"),
    )


def _compress_alone(subject: Subject, arm: Arm, meter: Meter, costs: Costs) -> None:
    stored = block(subject.shape(arm))

    def read() -> None:
        subject.read_into(arm, places_in(stored))

    key: Key = (arm, "compress", 1)
    costs.memory[key] = _peak_of(meter, read)
    costs.joules[key] = _energy_of(subject, meter, read)


def _held_alone(subject: Subject, arm: Arm, contexts: int, meter: Meter, costs: Costs) -> None:
    """The steady state, then the same number answered together."""
    let_go(subject.device)
    before = meter.allocated()
    held = [block(subject.shape(arm)) for _ in range(contexts)]
    subject.read_into(arm, places_in(held[0]))
    for other in held[1:]:
        other.copy_(held[0])
    let_go(subject.device)
    key: Key = (arm, "steady", contexts)
    costs.memory[key] = _peak_of(meter, lambda: None)
    costs.joules[key] = _power(subject, meter)
    costs.key_values[arm] = costs.key_values[arm].model_copy(
        update={"allocated_bytes": _growth(before, meter.allocated(), contexts)}
    )
    held.clear()
    let_go(subject.device)

    batch = subject.batch(arm, contexts)
    try:
        load(subject, arm, batch)
        ids = subject.questions(contexts)
        ask, decode = _answering(subject, arm, batch, ids)
        key = (arm, "question", contexts)
        costs.memory[key] = _peak_of(meter, ask)
        costs.joules[key] = _energy_of(subject, meter, ask)
        subject.prepare(batch)
        key = (arm, "decode", contexts)
        costs.memory[key] = _peak_of(meter, decode)
        costs.joules[key] = _energy_of(subject, meter, decode, before=ask)
    finally:
        let_go(subject.device, batch)


def _growth(before: Count, after: Count, contexts: int) -> Count:
    if isinstance(before, NotMeasured):
        return before
    return after if isinstance(after, NotMeasured) else (after - before) // contexts


def _in_turn(subject: Subject, contexts: int, costs: Costs) -> None:
    """A round that does not count, then those that do; every other one in the reverse order.

    All rounds are kept, or none: what runs out of memory on the way has no times.
    """
    batches: dict[Arm, HeldBatch] = {}
    stored: dict[Arm, torch.Tensor] = {}
    timed: dict[Key, list[float]] = {}
    ids = subject.questions(contexts)
    try:
        for arm in ARMS:
            with subject.weights_of(arm):
                batches[arm] = subject.batch(arm, contexts)
                load(subject, arm, batches[arm])
                stored[arm] = block(subject.shape(arm))
        for number in range(subject.settings.rounds + 1):
            for arm in ARMS if number % 2 else ARMS[::-1]:
                with subject.weights_of(arm):
                    for key, seconds in _round(subject, arm, batches[arm], stored[arm], ids):
                        if number:
                            timed.setdefault(key, []).append(seconds)
        costs.seconds |= timed
    finally:
        stored.clear()
        let_go(subject.device, *batches.values())


def _round(
    subject: Subject, arm: Arm, batch: HeldBatch, stored: torch.Tensor, ids: torch.Tensor
) -> Iterator[tuple[Key, float]]:
    rows = batch.shape[0]
    ask, decode = _answering(subject, arm, batch, ids)
    if rows == min(subject.settings.sizes):  # contexts are read one at a time: once is enough
        read = subject.seconds(lambda: subject.read_into(arm, places_in(stored)))
        yield (arm, "compress", 1), read
    yield (arm, "question", rows), subject.seconds(ask)
    subject.prepare(batch)
    yield (arm, "decode", rows), subject.seconds(decode)


def _answering(
    subject: Subject, arm: Arm, batch: HeldBatch, ids: torch.Tensor
) -> tuple[Callable[[], None], Callable[[], None]]:
    return lambda: subject.ask(arm, batch, ids), lambda: subject.decode(batch)


def _peak_of(meter: Meter, work: Callable[[], None]) -> Memory:
    meter.start()
    work()
    return meter.peak()


def _energy_of(
    subject: Subject,
    meter: Meter,
    work: Callable[[], None],
    before: Callable[[], None] | None = None,
) -> Quantity:
    """Joules of one piece of work, repeated until the counter has something to count.

    Args:
        subject: Says how long.
        meter: Of the device.
        work: To repeat.
        before: What each repetition starts from, if it changes; its energy counts too, so that
            it is measured alone and taken off.
    """
    least = subject.settings.energy_seconds
    if least == 0:
        return NO_ENERGY
    if before is None:
        return _repeated(subject, meter, work, least)

    def both() -> None:
        before()
        work()

    together = _repeated(subject, meter, both, least)
    alone = _repeated(subject, meter, before, least)
    if isinstance(together, NotMeasured):
        return together
    if isinstance(alone, NotMeasured):
        return alone
    if together <= alone:
        return NotMeasured(not_measured="too little energy for the device's counter")
    return together - alone


def _repeated(
    subject: Subject, meter: Meter, work: Callable[[], None], least_seconds: float
) -> Quantity:
    start, began = meter.joules(), time.perf_counter()
    if isinstance(start, NotMeasured):
        return start
    repeats = 0
    while repeats == 0 or time.perf_counter() - began < least_seconds:
        subject.seconds(work)
        repeats += 1
    end = meter.joules()
    return end if isinstance(end, NotMeasured) else (end - start) / repeats


def _power(subject: Subject, meter: Meter) -> Quantity:
    """Joules of one second in which nothing runs."""
    least = subject.settings.energy_seconds
    if least == 0:
        return NO_ENERGY
    start, began = meter.joules(), time.perf_counter()
    if isinstance(start, NotMeasured):
        return start
    time.sleep(least)
    end = meter.joules()
    seconds = time.perf_counter() - began
    return end if isinstance(end, NotMeasured) else (end - start) / seconds


def _cost(subject: Subject, key: Key, costs: Costs) -> PhaseCost:
    arm, phase, contexts = key
    idle = NotMeasured(not_measured="nothing runs in the steady state")
    floors: dict[str, Callable[[], Floor]] = {
        "compress": lambda: subject.compress_floor(arm),
        "steady": lambda: Floor(idle),
        "question": lambda: subject.question_floor(arm, contexts),
        "decode": lambda: subject.decode_floor(arm, contexts),
    }
    missing = NotMeasured(not_measured=f"{contexts} contexts did not fit")
    memory = costs.memory.get(key, Memory(missing, missing, missing))
    floor = floors[phase]()
    no_bytes = NotMeasured(not_measured="bytes are counted for the steady state")
    return PhaseCost(
        arm=arm,
        phase=phase,
        contexts=contexts,
        round_seconds=tuple(costs.seconds.get(key, ())),
        steps=subject.settings.new_tokens if phase == "decode" else 0,
        floor_seconds=floor.seconds,
        unpacked_parameters=floor.unpacked_parameters,
        floor_bytes=subject.weights_floor_bytes(contexts, arm) if phase == "steady" else no_bytes,
        torch_allocated_bytes=memory.allocated,
        torch_reserved_bytes=memory.reserved,
        device_bytes=memory.device,
        joules=costs.joules.get(key, missing),
    )
