"""Percentiles of times, with intervals that suppose nothing of their distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from gistbench.report.statistics import ALPHA, Estimate


def quantile(values: Sequence[float], share: float) -> Estimate | None:
    """A quantile with the interval between two order statistics that holds it at 95 %.

    Of n independent values, how many lie below the true quantile is binomial; the interval's ends
    are the values of the ranks that leave out at most 2.5 % on either side (Hahn & Meeker 1991,
    Statistical Intervals, section 5.2). The value interpolates between neighbours.

    Args:
        values: In any order.
        share: Of the values that lie below; 0.99 is the 99th percentile.

    Returns:
        None where the values are too few for such an interval to have both its ends; see
        `values_needed`.

    Raises:
        ValueError: The share is not between 0 and 1.
    """
    n = len(values)
    if n < values_needed(share):
        return None
    ranked = sorted(values)
    below = stats.binom(n, share)
    # X(low) lies above the quantile if fewer than `low` values lie below it, X(high) likewise.
    low = max(int(below.ppf(ALPHA / 2)), 1)
    high = min(int(below.ppf(1 - ALPHA / 2)) + 1, n)
    return Estimate(_interpolated(ranked, share), ranked[low - 1], ranked[high - 1], n)


def values_needed(share: float) -> int:
    """Values from which a quantile has such an interval: 6 for the median, 368 for the 99th.

    Both ends exist once neither all values nor none of them lie below with more than 2.5 %.

    Raises:
        ValueError: The share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"a quantile's share lies between 0 and 1, got {share}")
    return math.ceil(math.log(ALPHA / 2) / math.log(max(share, 1 - share)))


def _interpolated(ranked: Sequence[float], share: float) -> float:
    place = share * (len(ranked) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (place - below) * (ranked[above] - ranked[below])
