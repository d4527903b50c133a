"""How many prompts does a comparison need? Power of McNemar's exact test, before any run.

Two numbers describe the alternative. The discordance is the share of prompts that exactly one of
the two arms answers right. The difference of the two rates is what remains when they are set
against each other: with a discordance of 8 % and a difference of 2 points, 5 % of the prompts are
answered by the first arm only and 3 % by the second only. Prompts on which the arms agree do not
count, so nothing has to be supposed about the rates themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special, stats

from gistbench.report.statistics import ALPHA, mcnemar

DISCORDANCES = (0.05, 0.08, 0.10, 0.20)
SIZES = (100, 200, 400, 600, 800, 1000)
TARGET_POWER = 0.8
_HALVINGS = 40  # of an interval no longer than 1/2: far below any difference that can be observed


@dataclass(frozen=True, slots=True)
class PowerCell:
    """What n prompts can show at one discordance.

    Attributes:
        discordance: Share of prompts that exactly one arm answers right.
        n: Prompts.
        difference: True difference of the rates that `power` is for; 0.02 is 2 points.
        power: Chance that the test rejects; None where the difference is larger than the
            discordance, which cannot be.
        detectable: Smallest true difference of the rates found with the target power; None where
            not even one as large as the discordance is.
    """

    discordance: float
    n: int
    difference: float
    power: float | None
    detectable: float | None


def mcnemar_power(discordance: float, share: float, n: int, alpha: float = ALPHA) -> float:
    """Chance that McNemar's exact two-sided test rejects.

    Summed, not simulated: the number of discordant prompts is binomial in n, and given that number
    the ones favouring the first arm are binomial in it; the test is conditional on the number, the
    power is not (Duffy 1984, Biometrics 40, 1005-1015). Rejections on either side count, also the
    rare ones in favour of the wrong arm, so at a share of 1/2 this is the size of the test.

    Args:
        discordance: Share of prompts that exactly one arm answers right, 0 to 1.
        share: Share of the discordant prompts that favour one of the arms, 0 to 1; by symmetry it
            does not matter which.
        n: Prompts.
        alpha: Two-sided level.

    Raises:
        ValueError: A share is not within 0..1, alpha not between 0 and 1, or n not positive.
    """
    _require(discordance, n, alpha)
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies within 0..1, got {share}")
    critical = _critical_counts(n, alpha)
    if not critical:
        return 0.0
    totals = [total for total, _ in critical]
    counts = [count for _, count in critical]
    others = [total - count + 1 for total, count in critical]
    # P(X >= count) of a binomial is the regularised incomplete beta function.
    rejected = special.betainc(counts, others, share) + special.betainc(counts, others, 1 - share)
    return min(1.0, math.fsum(stats.binom.pmf(totals, n, discordance) * rejected))


def power_of_difference(
    discordance: float, difference: float, n: int, alpha: float = ALPHA
) -> float:
    """Power for a true difference of the rates.

    The discordant prompts split into (discordance + difference) / 2 and
    (discordance - difference) / 2 of all prompts.

    Args:
        discordance: Share of prompts that exactly one arm answers right, above 0.
        difference: First rate minus second rate, at most the discordance in size; 0.02 is 2 points.
        n: Prompts.
        alpha: Two-sided level.

    Raises:
        ValueError: The difference is larger than the discordance, or as in `mcnemar_power`.
    """
    if discordance <= 0 or abs(difference) > discordance:
        raise ValueError(
            f"the rates differ by at most the discordance, which is above 0; got a difference of "
            f"{difference} with a discordance of {discordance}"
        )
    return mcnemar_power(discordance, (1 + difference / discordance) / 2, n, alpha)


def one_sided_power(discordance: float, loss: float, n: int, alpha: float) -> float:
    """Chance that the one-sided exact test finds a loss (`statistics.mcnemar_one_sided`).

    Summed as in `mcnemar_power`.

    Args:
        discordance: Share of prompts that exactly one side answers right, above 0.
        loss: True loss of the rate, 0 to the discordance; 0.02 is 2 points.
        n: Prompts.
        alpha: One-sided level, at most 1/2.

    Raises:
        ValueError: The loss is not within 0..discordance, or as in `mcnemar_power`.
    """
    _require(discordance, n, alpha)
    if not 0 <= loss <= discordance or discordance == 0:
        raise ValueError(f"a loss lies within 0..{discordance}, got {loss}")
    # A two-sided test at twice the level rejects on this side exactly where this one does.
    critical = _critical_counts(n, 2 * alpha)
    if not critical:
        return 0.0
    totals, counts = (np.array(column) for column in zip(*critical, strict=True))
    found = special.betainc(counts, totals - counts + 1, (1 + loss / discordance) / 2)
    return min(1.0, math.fsum(stats.binom.pmf(totals, n, discordance) * found))


def detectable_difference(
    discordance: float, n: int, target: float = TARGET_POWER, alpha: float = ALPHA
) -> float | None:
    """Smallest true difference of the rates that the test finds with the target power.

    The power grows with the size of the difference, so it is bisected; at what is returned the
    power is at least the target.

    Args:
        discordance: Share of prompts that exactly one arm answers right, above 0.
        n: Prompts.
        target: Wanted power, between 0 and 1.
        alpha: Two-sided level.

    Returns:
        The difference as a share of prompts (0.02 is 2 points), or None if not even a difference
        as large as the discordance is found so often: then n is too small for this discordance.

    Raises:
        ValueError: As in `power_of_difference`, or the target is not between 0 and 1.
    """
    if not 0 < target < 1:
        raise ValueError(f"a target power lies between 0 and 1, got {target}")
    if power_of_difference(discordance, discordance, n, alpha) < target:
        return None
    low, high = 0.0, discordance
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if power_of_difference(discordance, middle, n, alpha) < target:
            low = middle
        else:
            high = middle
    return high


def power_table(
    difference: float = 0.02,
    discordances: Sequence[float] = DISCORDANCES,
    sizes: Sequence[int] = SIZES,
    target: float = TARGET_POWER,
) -> tuple[PowerCell, ...]:
    """Power for one true difference, and the detectable difference, by discordance and n.

    The difference is held while the discordance varies, since a difference is what is claimed and
    the discordance is what happens to come with it.

    Args:
        difference: True difference of the rates; 0.02 is 2 points.
        discordances: Shares of prompts that exactly one arm answers right.
        sizes: Numbers of prompts.
        target: Power that the detectable difference is for.

    Returns:
        One cell each, all sizes of the first discordance first.
    """
    return tuple(
        PowerCell(
            discordance,
            n,
            difference,
            power_of_difference(discordance, difference, n)
            if abs(difference) <= discordance
            else None,
            detectable_difference(discordance, n, target),
        )
        for discordance in discordances
        for n in sizes
    )


@lru_cache(maxsize=64)
def _critical_counts(n: int, alpha: float) -> tuple[tuple[int, int], ...]:
    """Numbers of discordant prompts up to n with the smaller count that the test rejects from.

    Returns:
        Pairs (discordant prompts, least number on one side that rejects), without the numbers of
        discordant prompts so small that nothing rejects.
    """
    found = []
    count = 1
    for total in range(1, n + 1):
        # One more discordant prompt never lowers the count, so the search goes on where it was; it
        # began above half of the total and never falls below.
        while count <= total and mcnemar(count, total - count) > alpha:
            count += 1
        if count <= total:
            found.append((total, count))
    return tuple(found)


def _require(discordance: float, n: int, alpha: float) -> None:
    if not 0 <= discordance <= 1:
        raise ValueError(f"a discordance lies within 0..1, got {discordance}")
    if n < 1:
        raise ValueError(f"power needs at least one prompt, got {n}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha lies between 0 and 1, got {alpha}")
