"""How many times less or more: gists at each precision, NF4 in each arm, both together."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gistbench.metrics import format_ratio
from gistbench.records import NotMeasured
from gistbench.report.savings.corners import Corner, Saved
from gistbench.report.statistics import paired_ratio

SLACK = 1.001
"""Allocators round, and floors count no rounding."""

COSTS = 0.01
"""A step that loses more than this share of the whole saving costs; less is noise."""

NOT_THERE = "not asked for in this measurement"


@dataclass(frozen=True, slots=True)
class Factor:
    """A saving as a multiple: above 1 is less of a cost, or more of a rate.

    Attributes:
        value: The multiple.
        low: End of its interval, or of its bracket; None where there is none.
        high: Likewise.
        floor: The multiple of the floors, beyond which nothing can be saved.
    """

    value: float
    low: float | None = None
    high: float | None = None
    floor: float | None = None

    @property
    def broken(self) -> bool:
        """Whether it contradicts its floor: all that the rounds or tries leave open lies above.

        Then the first side is further from its own floor than the second, and the multiple tells
        of that.
        """
        least = self.value if self.low is None else self.low
        return self.floor is not None and least > self.floor * SLACK

    @property
    def detail(self) -> str:
        """Interval and floor, in words."""
        parts = []
        if self.low is not None:
            high = "no upper end" if self.high is None else format_ratio(self.high)
            parts.append(f"{format_ratio(self.low)} to {high}")
        if self.floor is not None:
            parts.append(f"floor ratio {format_ratio(self.floor)}")
            if self.broken:
                parts.append("BROKEN: above its floor ratio")
            elif self.value > self.floor * SLACK:
                parts.append("above it by no more than the interval leaves open")
        return "; ".join(parts)


def factor(saved: Saved, first: Corner, second: Corner) -> Factor | NotMeasured:
    """What going from the first corner to the second saves.

    Rounds are paired where both corners have the same precision: there they alternated. Between
    two precisions the medians are compared, with no interval.
    """
    values = []
    for corner in (first, second):
        value = saved.values.get(corner, NotMeasured(not_measured=NOT_THERE))
        if isinstance(value, NotMeasured):
            return value
        values.append(value)
    before, after = values if saved.better == "less" else values[::-1]
    found = Factor(before / after, floor=_floor(saved, first, second))
    if first in saved.brackets and second in saved.brackets:
        (first_fits, first_fails), (fits, fails) = saved.brackets[first], saved.brackets[second]
        low = None if first_fails is None else fits / first_fails
        high = None if fails is None else fails / first_fits
        return Factor(found.value, low, high, found.floor)
    if first[0] == second[0] and first in saved.rounds and second in saved.rounds:
        rounds = (saved.rounds[first], saved.rounds[second])
        estimate = paired_ratio(*(rounds if saved.better == "less" else rounds[::-1]))
        if estimate is not None:
            return Factor(estimate.value, estimate.low, estimate.high, found.floor)
    return found


def _floor(saved: Saved, first: Corner, second: Corner) -> float | None:
    """Only within a precision, where the sides alternated and the weights are the same."""
    before, after = saved.floors.get(first), saved.floors.get(second)
    if first[0] != second[0] or before is None or after is None:
        return None
    if isinstance(before, NotMeasured) or isinstance(after, NotMeasured):
        return None
    return before / after if saved.better == "less" else after / before


@dataclass(frozen=True, slots=True)
class Apart:
    """A saving from full context in bf16 to gists in NF4, in both orders of its two steps.

    What the second step finds is what the first has left, so neither order is the right one.

    Attributes:
        gists: At each precision: not quantised, NF4.
        nf4: In each arm: full, gist.
        both: Together.
        shares: Of the whole: gists first, NF4 after them; NF4 first, gists after it. The two of an
            order sum to 1. A text where there is nothing to share, saying why.
    """

    gists: tuple[Factor | NotMeasured, Factor | NotMeasured]
    nf4: tuple[Factor | NotMeasured, Factor | NotMeasured]
    both: Factor | NotMeasured
    shares: tuple[float, float, float, float] | NotMeasured | str


def apart(saved: Saved) -> Apart:
    """The five factors of a quantity, and whose the saving is."""
    return Apart(
        gists=(
            factor(saved, ("none", "full"), ("none", "gist")),
            factor(saved, ("nf4", "full"), ("nf4", "gist")),
        ),
        nf4=(
            factor(saved, ("none", "full"), ("nf4", "full")),
            factor(saved, ("none", "gist"), ("nf4", "gist")),
        ),
        both=factor(saved, ("none", "full"), ("nf4", "gist")),
        shares=_shares(saved),
    )


def _shares(saved: Saved) -> tuple[float, float, float, float] | NotMeasured | str:
    """Each step's part: of the difference for costs, which add up; of the logarithm for the rest,
    which multiplies."""
    corners: tuple[Corner, ...] = (
        ("none", "full"),
        ("none", "gist"),
        ("nf4", "full"),
        ("nf4", "gist"),
    )
    found = []
    for corner in corners:
        value = saved.values.get(corner, NotMeasured(not_measured=NOT_THERE))
        if isinstance(value, NotMeasured):
            return value
        found.append(-value if saved.better == "less" else math.log(value))
    start, gists, nf4, end = found
    steps = (gists - start, end - gists, nf4 - start, end - nf4)
    whole = end - start
    if whole <= 0:
        return "together they save nothing"
    if min(steps) < -COSTS * whole:
        return "one of the two costs where the other saves"
    first, second, third, fourth = (step / whole for step in steps)
    return first, second, third, fourth
