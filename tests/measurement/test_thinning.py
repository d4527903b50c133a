"""Fewer ticks, the same story."""

from __future__ import annotations

import itertools

import pytest

from gistbench.measurement.sources import Reading
from gistbench.measurement.thinning import Tick, thin


def curve(length: int, phases: tuple[str, ...] = ("load",)) -> list[Tick]:
    """A flat curve whose phases follow each other in equal parts."""
    return [
        Tick(float(i), phases[i * len(phases) // length], Reading(device_used_bytes=10))
        for i in range(length)
    ]


@pytest.mark.parametrize("limit", [1, 2, 7, 100, 999])
def test_thinning_never_exceeds_its_limit(limit):
    assert 1 <= len(thin(curve(1000, ("load", "compress", "decode")), limit)) <= limit


def test_short_curve_is_left_alone():
    ticks = curve(10)
    assert thin(ticks, 10) == ticks


@pytest.mark.parametrize("where", [1, 333, 998])
def test_thinning_keeps_the_peak_of_every_source(where):
    ticks = curve(1000)
    peak = Tick(float(where), "load", Reading(device_used_bytes=11, resident_bytes=3))
    ticks[where] = peak
    assert peak in thin(ticks, 10)


def test_thinning_keeps_changes_of_phase():
    ticks = curve(1000, ("load", "compress", "decode"))
    kept = thin(ticks, 12)
    for before, after in itertools.pairwise(ticks):
        if before.phase != after.phase:
            assert before in kept and after in kept


def test_thinned_ticks_stay_in_order_and_span_the_run():
    seconds = [tick.seconds for tick in thin(curve(1000), 50)]
    assert seconds == sorted(set(seconds))
    assert seconds[0] == 0 and seconds[-1] == 999
    assert max(b - a for a, b in itertools.pairwise(seconds)) < 60


def test_more_changes_than_room_still_keep_the_peak():
    ticks = [
        Tick(float(i), ("compress", "decode")[i % 2], Reading(resident_bytes=5 + (i == 77)))
        for i in range(1000)
    ]
    kept = thin(ticks, 10)
    assert ticks[77] in kept and len(kept) <= 10
