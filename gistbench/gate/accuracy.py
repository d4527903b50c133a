"""Has accuracy been lost? Every arm on every task against its own earlier answers, in pairs.

Only a loss is looked for: a gain is no regression. Two questions are asked of each cell, and they
have different errors. *Is something lost?* is McNemar's exact test, one-sided, over all cells
together by Holm's method, so that the chance of any false alarm in the run stays below alpha. *Is
little enough lost?* is non-inferiority: the low end of the difference's 95 % interval lies above
minus the margin. A cell for which neither is shown is inconclusive, which is not a pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gistbench.report.statistics import holm, mcnemar_one_sided, newcombe

MOST_PROMPTS = 10_000_000

CellVerdict = Literal["pass", "regression", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Prompts of one cell by who answered them right: both, only the baseline, only the run."""

    both: int
    lost: int
    gained: int
    neither: int

    @property
    def n(self) -> int:
        """All of them."""
        return self.both + self.lost + self.gained + self.neither

    @property
    def difference(self) -> float:
        """Rate of the run minus rate of the baseline."""
        return (self.gained - self.lost) / self.n

    def limits(self, n: float | None = None) -> tuple[float, float]:
        """Newcombe's 95 % interval of the difference, here or with n prompts and these shares."""
        return newcombe(self.both, self.gained, self.lost, self.neither, n)


@dataclass(frozen=True, slots=True)
class JudgedCell:
    """One cell, judged.

    Attributes:
        p_value: McNemar's one-sided exact p value of a loss.
        adjusted_p: By Holm over all cells in which something could be lost.
        n_needed: Prompts that would decide if all shares stay; None unless inconclusive.
    """

    outcomes: Outcomes
    verdict: CellVerdict
    low: float
    high: float
    p_value: float
    adjusted_p: float
    n_needed: int | None


def count_outcomes(before: Mapping[str, bool], after: Mapping[str, bool]) -> Outcomes:
    """Pair two sets of answers.

    Args:
        before: Prompt hash -> whether the baseline was right.
        after: The same of the run, with the same hashes.

    Raises:
        ValueError: The prompts are not the same.
    """
    if before.keys() != after.keys() or not before:
        raise ValueError(f"{len(before)} and {len(after)} prompts, which are not the same ones")
    both = sum(before[key] and after[key] for key in before)
    lost, gained = sum(before.values()) - both, sum(after.values()) - both
    return Outcomes(both, lost, gained, len(before) - both - lost - gained)


def judge_cells(
    cells: Sequence[Outcomes], *, margin: float, alpha: float, plan: bool = True
) -> list[JudgedCell]:
    """Judge all cells of a run together.

    A cell that the baseline answered nowhere has nothing to lose. It passes and is not counted
    among the tests: that is known before the run.

    Args:
        cells: One for each arm and task.
        margin: Largest loss that does not matter, a share of prompts.
        alpha: Bound on the chance that any cell is called a regression if none is one.
        plan: Look for the n that would decide, which takes longest.
    """
    own = [mcnemar_one_sided(cell.lost, cell.gained) for cell in cells]
    tested = [index for index, cell in enumerate(cells) if cell.both + cell.lost]
    adjusted = [1.0] * len(cells)
    for index, value in zip(tested, holm([own[index] for index in tested]), strict=True):
        adjusted[index] = value
    judged = []
    for cell, p_value, adjusted_p in zip(cells, own, adjusted, strict=True):
        low, high = cell.limits()
        verdict = _verdict(cell, low, adjusted_p, margin, alpha)
        needed = None
        if plan and verdict == "inconclusive":
            needed = _n_needed(cell, adjusted_p / p_value if p_value else 1.0, margin, alpha)
        judged.append(JudgedCell(cell, verdict, low, high, p_value, adjusted_p, needed))
    return judged


def _verdict(
    cell: Outcomes, low: float, adjusted_p: float, margin: float, alpha: float
) -> CellVerdict:
    if adjusted_p <= alpha:
        return "regression"
    nothing_to_lose = not cell.both + cell.lost
    return "pass" if nothing_to_lose or low > -margin else "inconclusive"


def _n_needed(cell: Outcomes, factor: float, margin: float, alpha: float) -> int | None:
    """First n that decides if every share stays; None where millions would not.

    There is one: the interval closes on a loss that is either within the margin or, being a loss,
    found by the test.
    """

    def decided(n: int) -> bool:
        growth = n / cell.n
        p_value = min(1.0, factor * mcnemar_one_sided(cell.lost * growth, cell.gained * growth))
        return _verdict(cell, cell.limits(n)[0], p_value, margin, alpha) != "inconclusive"

    below, above = cell.n, 2 * cell.n
    while not decided(above):
        below, above = above, 2 * above
        if below > MOST_PROMPTS:
            return None
    while above - below > 1:
        middle = (below + above) // 2
        if decided(middle):
            above = middle
        else:
            below = middle
    return above
