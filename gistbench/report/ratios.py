"""The ratio of two arms' rates on the same prompts, over one task or several of equal weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import optimize

from gistbench.report.rates import combine
from gistbench.report.statistics import Estimate, PairedDifference, wilson_limits

_MOST_PROMPTS = 10_000_000


def paired_rate_ratio(tasks: Sequence[PairedDifference], growth: float = 1.0) -> Estimate:
    """First arm's mean rate over the second's, with its interval.

    A ratio R belongs to the interval if 0 belongs to that of ``first - R x second`` (Fieller's
    argument). That one is recovered from the Wilson limits of both rates and their correlation, as
    Tang, Li & Tang (2012, Statistical Methods in Medical Research 21, 361-378) do for paired
    proportions by MOVER. For a single task and R = 1 it is Newcombe's tenth method, the interval
    of `statistics.paired_difference`, its correction of the correlation included; so the ratio's
    interval leaves out 1 exactly when the difference's leaves out 0. Unlike the delta method on
    the logarithm it has sensible limits when the first arm is never right.

    Args:
        tasks: The paired counts of each task; tasks weigh the same, however many prompts they have.
        growth: Compute the interval for this many times the prompts, all shares kept.

    Returns:
        The ratio; n counts the prompts of all tasks.

    Raises:
        ValueError: No task is given, or the second arm is never right, so that there is no ratio.
    """
    if not tasks:
        raise ValueError("a ratio of rates needs at least one task")
    sizes = [_size(task) for task in tasks]
    first = _mean_rate([task.both + task.only_first for task in tasks], sizes, growth)
    second = _mean_rate([task.both + task.only_second for task in tasks], sizes, growth)
    if second.value == 0:
        raise ValueError("the second arm is never right: there is no ratio to it")
    correlation = _correlation(tasks, sizes, growth)
    ratio = first.value / second.value

    def reach(candidate: float, own: float, other: float) -> float:
        """Distance to an end of the interval of first - candidate x second."""
        square = own**2 + (candidate * other) ** 2 - 2 * correlation * own * candidate * other
        return math.sqrt(max(0.0, square))

    def low_end(candidate: float) -> float:
        gap = first.value - candidate * second.value
        return gap - reach(candidate, first.value - first.low, second.high - second.value)

    def high_end(candidate: float) -> float:
        gap = first.value - candidate * second.value
        return gap + reach(candidate, first.high - first.value, second.value - second.low)

    low = 0.0 if low_end(0.0) <= 0 else float(optimize.brentq(low_end, 0.0, ratio))
    above = 2 * ratio or 1.0
    while high_end(above) > 0:
        above *= 2
    high = float(optimize.brentq(high_end, ratio, above))
    return Estimate(ratio, min(low, ratio), max(high, ratio), sum(sizes))


def ratio_n_needed(tasks: Sequence[PairedDifference], threshold: float) -> int | None:
    """Prompts, over all tasks, after which the interval excludes a threshold, all shares kept.

    Returns:
        The smallest such number, or None when the ratio equals the threshold (or lies so near that
        ten million would not do).
    """
    observed = paired_rate_ratio(tasks)

    def decided(n: int) -> bool:
        found = paired_rate_ratio(tasks, n / observed.n)
        return not found.low < threshold <= found.high

    below, above = 0, observed.n
    while not decided(above):
        below, above = above, 2 * above
        if above > _MOST_PROMPTS:
            return None
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if decided(middle) else (middle, above)
    return above


def _mean_rate(hits: Sequence[int], sizes: Sequence[int], growth: float) -> Estimate:
    rates = [
        Estimate(hit / n, *wilson_limits(hit / n, growth * n), n)
        for hit, n in zip(hits, sizes, strict=True)
    ]
    return combine([(1 / len(rates), rate) for rate in rates])


def _correlation(tasks: Sequence[PairedDifference], sizes: Sequence[int], growth: float) -> float:
    """Of the two mean rates; a positive one is corrected as Newcombe does."""
    covariance = first_variance = second_variance = 0.0
    for task, n in zip(tasks, sizes, strict=True):
        excess = float(task.both * task.neither - task.only_first * task.only_second)
        if excess > 0:
            excess = max(0.0, excess - n / (2 * growth))
        first, second = (task.both + task.only_first) / n, (task.both + task.only_second) / n
        covariance += excess / n**3
        first_variance += first * (1 - first) / n
        second_variance += second * (1 - second) / n
    spread = math.sqrt(first_variance * second_variance)
    return covariance / spread if spread else 0.0


def _size(task: PairedDifference) -> int:
    return task.both + task.only_first + task.only_second + task.neither
