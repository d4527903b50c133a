"""How often a gate errs: its own decision functions on simulated runs.

Nothing of a model is supposed but this. Prompts of a cell are independent; on a share of them, the
discordance, exactly one of the two runs is right; the discordance splits evenly between losses and
gains where nothing has changed. Times are log-normal and runs independent of each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gistbench.gate.accuracy import CellVerdict, Outcomes, judge_cells
from gistbench.gate.policy import AccuracyPolicy, TimePolicy
from gistbench.gate.times import TimeVerdict, judge_times
from gistbench.report.power import one_sided_power

RATE = 0.5
"""Rate of the baseline, which matters little: Newcombe's interval is widest here."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of simulated runs by verdict of the whole run.

    Attributes:
        simulations: Runs behind each share.
    """

    regression: float
    passed: float
    inconclusive: float
    simulations: int

    @property
    def error(self) -> float:
        """Largest standard error of a share."""
        shares = (self.regression, self.passed, self.inconclusive)
        return max(math.sqrt(share * (1 - share) / self.simulations) for share in shares)


def accuracy_rates(
    policy: AccuracyPolicy,
    *,
    cells: int,
    n: int,
    discordance: float,
    drop: float = 0.0,
    simulations: int,
    seed: int = 0,
) -> Rates:
    """Verdicts of runs in which one cell has lost something, or none has.

    Args:
        policy: Margin and alpha.
        cells: Arms times tasks, all of which are tested.
        n: Prompts of each cell.
        discordance: Share of prompts on which exactly one of the two runs is right.
        drop: True loss of the first cell, at most the discordance; the others lose nothing.
        simulations: Runs.
        seed: Of the random numbers.

    Raises:
        ValueError: The drop is larger than the discordance.
    """
    if not 0 <= drop <= discordance <= 1:
        raise ValueError(f"a drop of {drop} cannot be with a discordance of {discordance}")
    random = np.random.default_rng(seed)
    same, split = discordance / 2, np.array([drop, *[0.0] * (cells - 1)]) / 2
    agreeing = (1 - discordance) / 2
    shares = np.stack(
        [np.full(cells, agreeing), same + split, same - split, np.full(cells, agreeing)], axis=1
    )

    def one() -> str:
        drawn = random.multinomial(n, shares)
        judged = judge_cells(
            [Outcomes(*map(int, counts)) for counts in drawn],
            margin=policy.margin,
            alpha=policy.alpha,
            plan=False,
        )
        return _worst([found.verdict for found in judged])

    return _rates(one, simulations)


def prompts_needed(
    policy: AccuracyPolicy, *, cells: int, discordance: float, drop: float, target: float
) -> int:
    """Prompts with which a drop in one cell is found so often; summed, not simulated.

    The cell must be found at the strictest level that Holm's method asks, alpha over all cells, as
    if nothing else were found. The chance is not quite monotone in n; what is returned, and the 20
    numbers after it, reach the target.
    """

    def enough(n: int) -> bool:
        return all(
            one_sided_power(discordance, drop, later, policy.alpha / cells) >= target
            for later in range(n, n + 20)
        )

    low, high = 1, 64
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def time_rates(
    policy: TimePolicy,
    *,
    times: int,
    repeats: int,
    variation: float,
    slowdown: float = 0.0,
    simulations: int,
    seed: int = 0,
) -> Rates:
    """Verdicts of runs in which the first time has become slower, or none has.

    Args:
        policy: Its bounds.
        times: Arms times what is timed of each.
        repeats: Runs on either side.
        variation: Coefficient of variation from run to run.
        slowdown: Of the first time; 0.1 is 10 %.
        simulations: Comparisons.
        seed: Of the random numbers.
    """
    random = np.random.default_rng(seed)
    spread = math.sqrt(math.log1p(variation**2))
    factors = [1 + slowdown] + [1.0] * (times - 1)

    def one() -> str:
        groups = [
            (
                np.exp(random.normal(0, spread, repeats)).tolist(),
                (factor * np.exp(random.normal(0, spread, repeats))).tolist(),
            )
            for factor in factors
        ]
        return _worst([found.verdict for found in judge_times(groups, policy)])

    return _rates(one, simulations)


def _worst(verdicts: Sequence[CellVerdict] | Sequence[TimeVerdict]) -> str:
    return next(
        verdict for verdict in ("regression", "inconclusive", "pass") if verdict in verdicts
    )


def _rates(one: Callable[[], str], simulations: int) -> Rates:
    counts = {"regression": 0, "inconclusive": 0, "pass": 0}
    for _ in range(simulations):
        counts[one()] += 1
    shares = {verdict: count / simulations for verdict, count in counts.items()}
    return Rates(shares["regression"], shares["pass"], shares["inconclusive"], simulations)
