"""Keep a memory curve small without losing what a reader looks for in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gistbench.measurement.sources import FIELDS, Reading
from gistbench.records import MemoryRecord, Phase


@dataclass(frozen=True, slots=True)
class Tick:
    """One reading in time.

    Attributes:
        seconds: Since the process started.
    """

    seconds: float
    phase: Phase
    reading: Reading

    def record(self, arm: str) -> MemoryRecord:
        """The tick as it is stored."""
        return MemoryRecord(
            arm=arm,
            phase=self.phase,
            seconds=self.seconds,
            device_used_bytes=self.reading.device_used_bytes,
            process_used_bytes=self.reading.process_used_bytes,
            torch_allocated_bytes=self.reading.torch_allocated_bytes,
            torch_reserved_bytes=self.reading.torch_reserved_bytes,
            resident_bytes=self.reading.resident_bytes,
        )


def thin(ticks: Sequence[Tick], limit: int) -> list[Tick]:
    """At most `limit` ticks, in order.

    Kept first: the first and last tick and, for every phase and source, the tick of its peak. Then
    the ticks on both sides of a change of phase, then all others; where a group does not fit, its
    ticks are spread evenly over time.

    Args:
        ticks: In order of time.
        limit: The most ticks to return; at least 1.
    """
    if len(ticks) <= limit:
        return list(ticks)
    kept: set[int] = set()
    for group in (_landmarks(ticks), _changes(ticks), range(len(ticks))):
        waiting = [index for index in group if index not in kept]
        kept.update(_spread(waiting, ticks, limit - len(kept)))
    return [ticks[index] for index in sorted(kept)]


def _landmarks(ticks: Sequence[Tick]) -> list[int]:
    """Indices of the peaks of every phase and source, of the first tick and of the last."""
    peaks: dict[tuple[str, str], tuple[int, int]] = {}
    for index, tick in enumerate(ticks):
        for field in FIELDS:
            value = getattr(tick.reading, field)
            key = (tick.phase, field)
            if value is not None and (key not in peaks or value > peaks[key][0]):
                peaks[key] = (value, index)
    return sorted({0, len(ticks) - 1, *(index for _, index in peaks.values())})


def _changes(ticks: Sequence[Tick]) -> list[int]:
    """Indices on both sides of each change of phase."""
    sides: set[int] = set()
    for index in range(1, len(ticks)):
        if ticks[index].phase != ticks[index - 1].phase:
            sides.update((index - 1, index))
    return sorted(sides)


def _spread(indices: Sequence[int], ticks: Sequence[Tick], count: int) -> list[int]:
    """At most `count` of the indices: the first in each of `count` equal stretches of time."""
    if len(indices) <= count:
        return list(indices)
    if count <= 0:
        return []
    start = ticks[indices[0]].seconds
    span = ticks[indices[-1]].seconds - start
    first: dict[int, int] = {}
    for index in indices:
        share = (ticks[index].seconds - start) / span if span > 0 else 0.0
        first.setdefault(min(int(share * count), count - 1), index)
    return list(first.values())
