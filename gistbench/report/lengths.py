"""How long may a context be before the score falls? The effective length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

from gistbench.report.rates import combine
from gistbench.report.statistics import Estimate, wilson

SHARE = 0.85
_ROUNDING = 1e-12  # 578 of 1,000 is 85 % of 680 of 1,000; in floating point it is a hair less


@dataclass(frozen=True, slots=True)
class LengthScore:
    """The score at one length against what has to be kept.

    Attributes:
        length_tokens: Context length.
        rate: Score with Wilson's interval.
        excess: Score minus the share of the base score that has to be kept, with its interval. At
            the base length it is exact: the base keeps itself.
    """

    length_tokens: int
    rate: Estimate
    excess: Estimate

    @property
    def keeps(self) -> bool:
        """By the point estimate."""
        return self.excess.value >= -_ROUNDING

    @property
    def surely_keeps(self) -> bool:
        """By the whole interval."""
        return self.excess.low >= 0

    @property
    def surely_loses(self) -> bool:
        """By the whole interval."""
        return self.excess.high < 0


@dataclass(frozen=True, slots=True)
class EffectiveLength:
    """The longest length up to which a score holds.

    Attributes:
        length_tokens: Decided by the point estimates.
        low_tokens: What it is if every length that its interval leaves open is lost.
        high_tokens: What it is if every such length is kept.
        share: Share of the base score that has to be kept.
        scores: All lengths, the shortest (the base) first.
    """

    length_tokens: int
    low_tokens: int
    high_tokens: int
    share: float
    scores: tuple[LengthScore, ...]

    @property
    def is_open(self) -> bool:
        """Whether an interval leaves another effective length possible."""
        return self.low_tokens != self.high_tokens

    @property
    def reaches_longest(self) -> bool:
        """Whether the longest measured length holds: then the value is a lower bound."""
        return self.length_tokens == self.scores[-1].length_tokens


def effective_length(
    counts: Mapping[int, tuple[int, int]], share: float = SHARE
) -> EffectiveLength | None:
    """Longest length whose score, and that of all shorter ones, keeps a share of the base score.

    The idea is RULER's (Hsieh et al. 2024, arXiv 2404.06654), which asks for a fixed score; the
    share of one's own base score is NoLiMa's (Modarressi et al. 2025, arXiv 2502.05167). It suits
    arms that start from different scores. Here the base is the shortest length alone. A length
    after one that failed does not count, even if its score is high again.

    The interval of each length is that of its rate minus the share of the base rate, by MOVER
    (`rates.combine`), which takes the samples of different lengths as independent. Each is at
    95 % for itself; nothing is adjusted for the number of lengths.

    Args:
        counts: Context length in tokens -> (right answers, samples).
        share: Share of the base score that has to be kept, above 0, at most 1.

    Returns:
        None if the base score is 0: there is nothing to keep.

    Raises:
        ValueError: No length is given, the share is not above 0 and at most 1, or the counts of a
            length make no proportion.
    """
    if not counts:
        raise ValueError("an effective length needs at least one measured length")
    if not 0 < share <= 1:
        raise ValueError(f"the share to keep is above 0 and at most 1, got {share}")
    rates = {length: wilson(*counts[length]) for length in sorted(counts)}
    shortest, *longer = rates
    base = rates[shortest]
    if base.value == 0:
        return None
    kept = (1 - share) * base.value
    scores = (
        LengthScore(shortest, base, Estimate(kept, kept, kept, base.n)),
        *(
            LengthScore(length, rates[length], combine([(1, rates[length]), (-share, base)]))
            for length in longer
        ),
    )

    def last(kept_so_far: list[LengthScore]) -> int:
        return kept_so_far[-1].length_tokens

    return EffectiveLength(
        length_tokens=last(list(takewhile(lambda score: score.keeps, scores))),
        low_tokens=last(list(takewhile(lambda score: score.surely_keeps, scores))),
        high_tokens=last(list(takewhile(lambda score: not score.surely_loses, scores))),
        share=share,
        scores=scores,
    )
