"""Filling a budget: the number that fits is found by trying, on any device that can be tried."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gistbench.errors import UsageError
from gistbench.speed.filling import fill
from gistbench.speed.savings_records import Filled, Probe

BUDGET = 1000


@dataclass
class FakeDevice:
    """Weights, a read, and contexts that come in segments of several bytes each."""

    context_bytes: int = 7
    weights_bytes: int = 100
    segment_bytes: int = 1
    budget_bytes: int = BUDGET
    device_bytes: int = 10 * BUDGET
    noise: list[int] = field(default_factory=list)
    tried: list[int] = field(default_factory=list)

    def used(self, contexts: int) -> int:
        segments = -(-contexts * self.context_bytes // self.segment_bytes)
        return self.weights_bytes + segments * self.segment_bytes

    def probe(self, contexts: int) -> Probe:
        self.tried.append(contexts)
        used = self.used(contexts) + (self.noise.pop(0) if self.noise else 0)
        if used > self.device_bytes:
            return Probe(contexts=contexts, outcome="out of memory")
        fits = used <= self.budget_bytes
        return Probe(contexts=contexts, outcome="fits" if fits else "over budget", used_bytes=used)

    def most(self) -> int:
        limit = min(self.budget_bytes, self.device_bytes)
        return max(n for n in range(limit + 1) if self.used(n) <= limit)


def filled(device: FakeDevice, tolerance: float = 0.0, most: int = 10**6) -> Filled:
    return fill(device, "gist", tolerance=tolerance, most=most)


@given(st.integers(1, 400), st.integers(0, 500), st.integers(1, 300), st.integers(600, 3000))
@settings(max_examples=200, deadline=None)
def test_the_number_is_the_largest_that_fits_whatever_the_fragmentation(
    context_bytes: int, weights_bytes: int, segment_bytes: int, device_bytes: int
) -> None:
    device = FakeDevice(context_bytes, weights_bytes, segment_bytes, device_bytes=device_bytes)
    if device.most() == 0:
        with pytest.raises(UsageError):
            filled(device)
        return
    found = filled(device)
    assert (found.fits, found.fails) == (device.most(), device.most() + 1)
    assert found.ended_by == ("budget" if device_bytes >= BUDGET else "device")


def test_every_number_that_is_told_was_tried_and_the_answer_twice() -> None:
    device = FakeDevice()
    found = filled(device)
    assert [probe.contexts for probe in found.probes] == device.tried
    assert device.tried[:8] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert device.tried.count(found.fits) == 2 and found.fails in device.tried


def test_a_tolerance_leaves_a_gap_and_states_it() -> None:
    found = filled(FakeDevice(context_bytes=1), tolerance=0.05)
    assert found.fits <= 900 < (found.fails or 0)
    assert 1 < found.fails - found.fits <= 0.05 * found.fits  # type: ignore[operator]


def test_a_device_smaller_than_the_budget_ends_the_filling_in_its_own_name() -> None:
    device = FakeDevice(device_bytes=500)
    found = filled(device)
    assert (found.fits, found.ended_by) == (57, "device")
    assert {probe.outcome for probe in found.probes} == {"fits", "out of memory"}


def test_a_search_that_meets_its_limit_claims_no_upper_bound() -> None:
    found = filled(FakeDevice(), most=50)
    assert (found.fits, found.fails, found.ended_by) == (50, None, "limit")


def test_what_fits_once_by_luck_is_not_believed() -> None:
    # 1, 2, ... 128 are tried first, then halves; the try of 129 is handed 10 bytes too few.
    calm = FakeDevice()
    filled(calm)
    lucky = calm.tried.index(129)
    device = FakeDevice(noise=[0] * lucky + [-10])
    found = filled(device)
    assert device.tried.count(129) == 2
    assert (found.fits, found.fails) == (128, 129)
    assert device.tried.count(128) == 2


@given(st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_on_a_noisy_device_the_bracket_still_holds_what_was_seen(seed: int) -> None:
    drawn = random.Random(seed)
    device = FakeDevice(noise=[drawn.randint(-30, 30) for _ in range(200)])
    found = filled(device)
    outcomes = [p.outcome for p in found.probes if p.contexts == found.fits]
    assert outcomes.count("fits") >= 2
    assert found.fails is not None and found.fits < found.fails
    assert any(p.contexts == found.fails and p.outcome != "fits" for p in found.probes)
    assert abs(found.fits - device.most()) <= 30 // device.context_bytes + 1


def test_a_budget_below_the_weights_is_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"do not fit 1.0 KiB \(1\.\d KiB were used\); raise"):
        filled(FakeDevice(weights_bytes=1100))
    with pytest.raises(UsageError, match=r"do not fit .*choose --quantizations nf4$"):
        filled(FakeDevice(weights_bytes=1100, device_bytes=900))
