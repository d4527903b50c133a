"""How many contexts fit a budget: found by trying, never by dividing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gistbench.errors import UsageError
from gistbench.metrics import format_bytes
from gistbench.speed.savings_records import Arm, Filled, Probe


class NothingFitsError(UsageError):
    """Not even one context fits a budget."""


class Fillable(Protocol):
    """Something that brings contexts into memory and says what became of it."""

    @property
    def budget_bytes(self) -> int:
        """Of the device's memory, everything of this process included."""

    @property
    def device_bytes(self) -> int:
        """What the device could give to this process."""

    def probe(self, contexts: int) -> Probe:
        """Really bring so many contexts into memory, from none, and let go of them."""


def fill(
    device: Fillable,
    arm: Arm,
    *,
    tolerance: float,
    most: int,
    say: Callable[[Probe], None] = lambda _: None,
) -> Filled:
    """Find the most contexts that fit a budget.

    The number doubles until it is too large, then the gap is halved. What fits is tried a second
    time: on a device whose free memory moves, once is luck. Fails the second time, it counts as
    too large, and the gap below it is halved.

    Args:
        device: Where they are brought.
        arm: Named in the result.
        tolerance: The gap that is left may be this share of what fits, or one context.
        most: No more are tried.
        say: Told of every probe.

    Raises:
        NothingFitsError: Not even one context does.
    """
    probes: list[Probe] = []

    def fits(contexts: int) -> bool:
        probes.append(device.probe(contexts))
        say(probes[-1])
        return probes[-1].outcome == "fits"

    good, bad = 0, None
    while good < most and bad is None:
        tried = min(most, 2 * good or 1)
        if fits(tried):
            good = tried
        else:
            bad = tried
    known = {0}  # what fitted twice
    while True:
        while bad is not None and bad - good > max(1, int(tolerance * good)):
            middle = (good + bad) // 2
            if fits(middle):
                good = middle
            else:
                bad = middle
        if good in known:
            break
        if fits(good):
            known.add(good)
            break
        bad = good
        below = (p.contexts for p in probes if p.outcome == "fits" and p.contexts < bad)
        good = max(below, default=0)
    if good == 0:
        raise NothingFitsError(_nothing_fits(device, probes[0]))
    if bad is None:
        return Filled(arm=arm, fits=good, fails=None, ended_by="limit", probes=tuple(probes))
    ended_by = "budget" if device.device_bytes >= device.budget_bytes else "device"
    return Filled(arm=arm, fits=good, fails=bad, ended_by=ended_by, probes=tuple(probes))


def _nothing_fits(device: Fillable, first: Probe) -> str:
    limit = min(device.budget_bytes, device.device_bytes)
    need = f" ({format_bytes(first.used_bytes)} were used)" if first.used_bytes else ""
    return (
        f"weights, one read and one context do not fit {format_bytes(limit)}{need}; "
        "raise --budget-gib or choose --quantizations nf4"
    )
