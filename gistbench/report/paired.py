"""Is one arm better than another, worse, or as good? A verdict from the same prompts.

Which arms are compared, on what, and which comparisons make a family is for the caller to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gistbench.report.statistics import (
    ALPHA,
    Estimate,
    PairedDifference,
    mcnemar,
    newcombe,
    paired_difference,
)

MARGIN = 0.02

PairedVerdict = Literal["better", "worse", "equivalent", "non-inferior", "inconclusive"]


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Two arms on the same prompts, judged.

    Attributes:
        paired: Counts, difference of the rates (first minus second) with its interval, p value.
        margin: Largest difference of the rates that does not matter; 0.02 is 2 points.
        p_value: The p value that was judged: McNemar's, or the adjusted one that was given.
        verdict: What is said of the first arm against the second; see `judge_paired`.
        n_needed: Prompts after which the verdict would no longer be inconclusive, if every share
            of the four counts stays as it is; None unless it is inconclusive.
    """

    paired: PairedDifference
    margin: float
    p_value: float
    verdict: PairedVerdict
    n_needed: int | None

    @property
    def within_margin(self) -> bool:
        """Whether the whole interval lies inside the margin, also if the verdict says better."""
        return _within(self.paired.difference.low, self.paired.difference.high, self.margin)


def compare_arms(
    first: Mapping[str, bool], second: Mapping[str, bool], margin: float = MARGIN
) -> PairedComparison:
    """Compare two arms prompt by prompt and judge the first against the second.

    Args:
        first: Prompt hash -> whether the first arm was right.
        second: The same for the second arm. Only prompts that both have are compared.
        margin: Largest difference of the rates that does not matter; 0.02 is 2 points.

    Raises:
        ValueError: No prompt is common to both, or the margin is not between 0 and 1.
    """
    return judge_paired(paired_difference(first, second), margin)


def judge_paired(
    paired: PairedDifference, margin: float = MARGIN, adjusted_p: float | None = None
) -> PairedComparison:
    """Judge the first arm against the second. The first line that holds is the verdict.

    * **better**: the whole interval is above 0 and the exact test's p value is at most 5 %.
    * **worse**: the whole interval is below 0 and the p value is at most 5 %.
    * **equivalent**: the whole interval is inside the margin, -margin < low and high < margin.
    * **non-inferior**: the low end is above -margin.
    * **inconclusive**: none of these.

    Better and worse ask for both because the interval is approximate and the test is exact: in
    small samples the interval may leave out 0 where the test does not reject. They come first, so
    a real difference too small to matter is still named; `within_margin` then says that it is. A
    two-sided 95 % interval inside the margin is the two one-sided tests at 2.5 % each (Schuirmann
    1987, Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680), stricter than their usual
    5 %. Non-inferiority by the low end is as in Piaggio et al. (2012, JAMA 308, 2594-2604).

    Swapping the arms turns better into worse and keeps equivalent. Non-inferior becomes
    inconclusive: of the second arm it says nothing.

    Args:
        paired: The comparison to judge.
        margin: Largest difference of the rates that does not matter; 0.02 is 2 points. It has to
            be fixed before the results are seen.
        adjusted_p: p value after adjustment for a family (`statistics.holm`), judged in place of
            McNemar's own. The interval is not adjusted. The n needed supposes that the ratio of
            adjusted to own p value stays.

    Raises:
        ValueError: The margin is not between 0 and 1, or the adjusted p value is below the own one
            or above 1.
    """
    if not 0 < margin < 1:
        raise ValueError(f"a margin lies between 0 and 1 (0.02 is 2 points), got {margin}")
    own = paired.p_value
    p_value = own if adjusted_p is None else adjusted_p
    if not own <= p_value <= 1:
        raise ValueError(f"an adjusted p value lies within {own:g}..1, got {p_value}")
    low, high = paired.difference.low, paired.difference.high
    verdict = _verdict(low, high, p_value, margin)
    needed = None
    if verdict == "inconclusive":
        needed = _n_needed(paired, margin, p_value / own if own else 1.0)
    return PairedComparison(paired, margin, p_value, verdict, needed)


def _verdict(low: float, high: float, p_value: float, margin: float) -> PairedVerdict:
    if p_value <= ALPHA and low > 0:
        return "better"
    if p_value <= ALPHA and high < 0:
        return "worse"
    if _within(low, high, margin):
        return "equivalent"
    return "non-inferior" if low > -margin else "inconclusive"


def _within(low: float, high: float, margin: float) -> bool:
    return -margin < low and high < margin


def _n_needed(paired: PairedDifference, margin: float, factor: float) -> int:
    """First n that decides. There is one: the interval closes on a value that is 0 or is not."""
    observed: Estimate = paired.difference

    def decided(n: int) -> bool:
        low, high = newcombe(paired.both, paired.only_first, paired.only_second, paired.neither, n)
        growth = n / observed.n
        p_value = mcnemar(paired.only_first * growth, paired.only_second * growth)
        return _verdict(low, high, min(1.0, factor * p_value), margin) != "inconclusive"

    below, above = observed.n, 2 * observed.n
    while not decided(above):
        below, above = above, 2 * above
    while above - below > 1:
        middle = (below + above) // 2
        if decided(middle):
            above = middle
        else:
            below = middle
    return above
