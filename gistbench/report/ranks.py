"""Two groups of repeated measurements: is the second larger, and by how much?

Times are skewed and have outliers, so ranks are compared and not means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from scipy import stats

ONE_SIDED = 0.05


@dataclass(frozen=True, slots=True)
class RankComparison:
    """Repeats of a positive quantity, before and after.

    Attributes:
        ratio: Hodges and Lehmann's estimate: the median of all ratios after / before.
        low, high: One-sided 95 % limits of the ratio, each to its own side.
        cliffs_delta: How much more often a value after is the larger than the smaller one, over
            all pairs: 1 if all after are larger, -1 if all are smaller, 0 if they overlap evenly.
        p_value: Mann-Whitney's one-sided exact test that values after are larger.
    """

    ratio: float
    low: float
    high: float
    cliffs_delta: float
    p_value: float


def compare_ranks(before: Sequence[float], after: Sequence[float]) -> RankComparison:
    """Compare two groups of independent repeats.

    The test is Mann and Whitney's (1947, Annals of Mathematical Statistics 18, 50-60), the ratio
    and its limits are those that the test does not reject (Hodges & Lehmann 1963, Annals of
    Mathematical Statistics 34, 598-611) on logarithms, and the effect size is Cliff's (1993,
    Psychological Bulletin 114, 494-509).

    Args:
        before: Positive values, at least one.
        after: The same, in the same unit.

    Raises:
        ValueError: A group is empty or holds a value that is not positive.
    """
    if not before or not after or min(*before, *after) <= 0:
        raise ValueError(f"ranks need positive values on both sides, got {before} and {after}")
    logs = sorted(math.log(late / early) for late in after for early in before)
    larger, smaller = sum(value > 0 for value in logs), sum(value < 0 for value in logs)
    skipped = _skipped(len(before), len(after))
    return RankComparison(
        ratio=math.exp(_median(logs)),
        low=math.exp(logs[skipped]) if skipped is not None else 0.0,
        high=math.exp(logs[-1 - skipped]) if skipped is not None else math.inf,
        cliffs_delta=(larger - smaller) / len(logs),
        p_value=one_sided_p(before, after),
    )


def one_sided_p(before: Sequence[float], after: Sequence[float]) -> float:
    """Mann-Whitney's p value for "values after are larger"; exact where no two values are equal."""
    ties = len({*before, *after}) < len(before) + len(after)
    method = "asymptotic" if ties else "exact"
    return float(stats.mannwhitneyu(after, before, alternative="greater", method=method).pvalue)


def least_p(before: int, after: int) -> float:
    """The smallest p value that groups of these sizes can reach: all after above all before."""
    return 1 / math.comb(before + after, before)


def _skipped(before: int, after: int) -> int | None:
    """How many of the sorted ratios lie beyond a one-sided 95 % limit; None where there is none.

    The (k + 1)-th smallest ratio is a lower limit if U, the number of ratios below 1 under the
    null hypothesis, is at most k with a chance of at most 5 %.
    """
    total = math.comb(before + after, before)
    reached, found = 0, None
    for count, ways in enumerate(_orderings(before, after)):
        reached += ways
        if reached > ONE_SIDED * total:
            break
        found = count
    return found


@lru_cache(maxsize=64)
def _orderings(before: int, after: int) -> tuple[int, ...]:
    """Number of orderings of the two groups with each value of U: Gaussian binomials."""
    ways = [1] + [0] * (before * after)
    for part in range(1, before + 1):
        # Multiply by (1 - q^(after + part)) and divide by (1 - q^part).
        for power in range(len(ways) - 1, after + part - 1, -1):
            ways[power] -= ways[power - after - part]
        for power in range(part, len(ways)):
            ways[power] += ways[power - part]
    return tuple(ways)


def _median(values: Sequence[float]) -> float:
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2
