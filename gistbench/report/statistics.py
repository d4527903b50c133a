"""Intervals and tests: what a sample allows one to say.

All intervals are two-sided at 95 %. Nothing here knows of arms, tasks or criteria.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import special, stats

CONFIDENCE = 0.95
ALPHA = 0.05
Z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval and the number of observations behind it."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: int, n: int) -> Estimate:
    """Wilson's score interval of a proportion (Wilson 1927, JASA 22, 209-212).

    Unlike the normal approximation it has sensible bounds at 0 and n successes and in small
    samples: 5 of 5 gives 56.6 % to 100 %, not a standard error of 0.

    Raises:
        ValueError: n is not positive or successes are not within 0..n.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"a proportion needs 0 <= successes <= n, n > 0; got {successes} of {n}")
    rate = successes / n
    return Estimate(rate, *wilson_limits(rate, n), n)


def wilson_n_needed(rate: float, threshold: float) -> int | None:
    """Samples after which Wilson's interval excludes a threshold, if the rate stays as it is.

    Wilson's interval inverts the score test, so it excludes p0 exactly when
    |rate - p0| > z sqrt(p0 (1 - p0) / n); solved for n.

    Returns:
        The smallest such n, or None when the rate equals the threshold: then no n decides.
    """
    if math.isclose(rate, threshold, rel_tol=0, abs_tol=1e-12):
        return None
    return math.floor(Z * Z * threshold * (1 - threshold) / (rate - threshold) ** 2) + 1


def mean(values: Sequence[float]) -> Estimate | None:
    """Mean with Student's t interval (Student 1908, Biometrika 6, 1-25).

    Returns:
        None for fewer than two values: one value has no spread to speak of.
    """
    n = len(values)
    if n < 2:
        return None
    centre = math.fsum(values) / n
    half = _t(n) * _deviation(values, centre) / math.sqrt(n)
    return Estimate(centre, centre - half, centre + half, n)


def mean_n_needed(values: Sequence[float], threshold: float) -> int | None:
    """Observations after which the t interval excludes a threshold, mean and spread unchanged.

    Returns:
        The smallest such n from 2 on, or None when the mean equals the threshold (or lies so near
        that a million would not do).
    """
    n = len(values)
    if n < 2:
        return 2
    centre = math.fsum(values) / n
    gap, spread = abs(centre - threshold), _deviation(values, centre)
    low, high = 2, 1_000_000
    if _t(high) * spread / math.sqrt(high) >= gap:
        return None
    while low < high:  # the half-width falls with n, so the first n that decides is bisected
        middle = (low + high) // 2
        if _t(middle) * spread / math.sqrt(middle) < gap:
            high = middle
        else:
            low = middle + 1
    return low


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate | None:
    """Ratio of paired positive measurements: t interval on the logarithms, then back.

    Pairing removes what both rounds of a pair share (clocks, temperature, neighbours); the
    logarithm makes a ratio and its inverse symmetric, so the value is the geometric mean (Fleming &
    Wallace 1986, CACM 29, 218-221).

    Returns:
        None for fewer than two pairs.
    """
    found = mean(log_ratios(numerators, denominators))
    if found is None:
        return None
    return Estimate(math.exp(found.value), math.exp(found.low), math.exp(found.high), found.n)


def log_ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Natural logarithm of each pair's ratio."""
    pairs = zip(numerators, denominators, strict=True)
    return [math.log(above / below) for above, below in pairs]


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Two arms on the same prompts.

    Attributes:
        both, only_first, only_second, neither: Prompts by who answered them right.
        difference: First rate minus second rate, with its interval.
        p_value: Exact McNemar test of no difference.
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    difference: Estimate
    p_value: float


def paired_difference(first: Mapping[str, bool], second: Mapping[str, bool]) -> PairedDifference:
    """Compare two arms prompt by prompt.

    The test is McNemar's (1947, Psychometrika 12, 153-157) in its exact binomial form: among the
    prompts on which the arms disagree, each is equally often the right one. The interval is
    Newcombe's tenth method (1998, Statistics in Medicine 17, 2635-2650): Wilson's limits of both
    rates, combined with their correlation.

    Args:
        first: Prompt hash -> whether the first arm was right.
        second: The same for the second arm. Only prompts that both have are compared.

    Raises:
        ValueError: No prompt is common to both.
    """
    common = first.keys() & second.keys()
    if not common:
        raise ValueError("the two arms have no prompt in common")
    both = sum(first[key] and second[key] for key in common)
    only_first = sum(first[key] and not second[key] for key in common)
    only_second = sum(second[key] and not first[key] for key in common)
    neither = len(common) - both - only_first - only_second
    low, high = newcombe(both, only_first, only_second, neither)
    value = (only_first - only_second) / len(common)
    p_value = mcnemar(only_first, only_second)
    difference = Estimate(value, low, high, len(common))
    return PairedDifference(both, only_first, only_second, neither, difference, p_value)


def mcnemar(only_first: float, only_second: float) -> float:
    """Two-sided p value of McNemar's exact test.

    Twice the larger side's binomial tail at 1/2, at most 1. The tail is written as the regularised
    incomplete beta function, which is the binomial sum at whole counts and joins them smoothly in
    between; that lets the same test be asked of a sample grown in proportion.

    Args:
        only_first: Prompts that only the first arm answered right, not negative.
        only_second: The same for the second arm.
    """
    more, fewer = max(only_first, only_second), min(only_first, only_second)
    if more == fewer:  # also without any discordant prompt, where the tail has no meaning
        return 1.0
    return min(1.0, 2 * float(special.betainc(more, fewer + 1, 0.5)))


def mcnemar_one_sided(lost: float, gained: float) -> float:
    """One-sided p value of McNemar's exact test: is more lost than gained?

    The chance of at least so many losses among the discordant prompts if each were as likely a
    gain; written as in `mcnemar`.

    Args:
        lost: Prompts that only the reference answered right, not negative.
        gained: Prompts that only what is tested answered right, not negative.
    """
    return float(special.betainc(lost, gained + 1, 0.5)) if lost > 0 else 1.0


def newcombe(
    both: int, only_first: int, only_second: int, neither: int, n: float | None = None
) -> tuple[float, float]:
    """Newcombe's interval for the difference of two paired rates, as in `paired_difference`.

    Args:
        both, only_first, only_second, neither: Prompts by who answered them right.
        n: Number of prompts to compute it for, with the observed shares kept; the observed number
            if not given.

    Returns:
        Low and high end of first rate minus second rate.
    """
    observed = both + only_first + only_second + neither
    size = observed if n is None else n
    first, second = (both + only_first) / observed, (both + only_second) / observed
    first_low, first_high = wilson_limits(first, size)
    second_low, second_high = wilson_limits(second, size)
    margins = (both + only_first) * (only_second + neither) * (both + only_second)
    margins *= only_first + neither
    excess = both * neither - only_first * only_second
    corrected = max(excess - observed**2 / (2 * size), 0) if excess > 0 else excess
    phi = corrected / math.sqrt(margins) if margins else 0.0
    down, up = first - first_low, second_high - second
    below = math.sqrt(max(0.0, down**2 - 2 * phi * down * up + up**2))
    up, down = first_high - first, second - second_low
    above = math.sqrt(max(0.0, up**2 - 2 * phi * up * down + down**2))
    value = (only_first - only_second) / observed
    return max(-1.0, value - below), min(1.0, value + above)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust a family of p values (Holm 1979, Scandinavian Journal of Statistics 6, 65-70).

    The smallest of m is multiplied by m, the next by m - 1 and so on; none falls below the one
    before it. Rejecting what is then at most alpha keeps the chance of even one false rejection in
    the family at alpha, however the tests depend on each other.

    Returns:
        Adjusted p values, at most 1, in the order of the input.

    Raises:
        ValueError: A p value is not within 0..1.
    """
    for p_value in p_values:
        if not 0 <= p_value <= 1:
            raise ValueError(f"a p value lies within 0..1, got {p_value}")
    adjusted = [0.0] * len(p_values)
    reached = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = reached
    return adjusted


def wilson_limits(rate: float, n: float) -> tuple[float, float]:
    """Limits of Wilson's interval for an observed rate; n need not be whole.

    Args:
        rate: 0 to 1.
        n: Samples, above 0.
    """
    share = Z * Z / n
    centre = (rate + share / 2) / (1 + share)
    half = Z * math.sqrt(rate * (1 - rate) / n + share / (4 * n)) / (1 + share)
    low = 0.0 if rate == 0 else max(0.0, centre - half)
    high = 1.0 if rate == 1 else min(1.0, centre + half)
    return low, high


def _t(n: int) -> float:
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1))


def _deviation(values: Sequence[float], centre: float) -> float:
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))
