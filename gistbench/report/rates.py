"""Rates against chance, and rates of independent groups combined."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gistbench.report.statistics import Estimate, wilson


def at_floor(successes: int, n: int, floor: float) -> bool:
    """Whether a rate cannot be told from chance: Wilson's interval includes the chance floor.

    A rate whose whole interval lies below the floor is not at the floor; guessing would be better.

    Args:
        successes: Right answers.
        n: Samples, more than 0.
        floor: The task's rate of right guesses, 0 to 1.

    Raises:
        ValueError: The floor is not within 0..1, or the counts make no proportion.
    """
    found = wilson(successes, n)
    return found.low <= _checked(floor) <= found.high


def is_discriminative(upper_arm_successes: int, n: int, floor: float) -> bool:
    """Whether a task can tell arms apart: its upper arm is above chance, interval and all.

    If the arm that sees most does no better than guessing, a lower score of another arm says
    nothing about that arm.

    Args:
        upper_arm_successes: Right answers of the arm that is the task's upper bound.
        n: Samples, more than 0.
        floor: The task's rate of right guesses, 0 to 1.

    Raises:
        ValueError: The floor is not within 0..1, or the counts make no proportion.
    """
    return wilson(upper_arm_successes, n).low > _checked(floor)


def balanced_accuracy(
    true_positives: int, num_positive: int, true_negatives: int, num_negative: int
) -> Estimate:
    """Mean of the two rates of right answers, where there is something to find and where not.

    Always saying yes, or always no, gives 50 % however many samples of each kind there are. The
    interval combines the Wilson intervals of the two rates (`combine`). Balanced accuracy is
    (J + 1) / 2 of Youden's index J, for which Shan (2015, PLoS ONE 10, e0127272) proposes it.

    Args:
        true_positives: Right answers among the samples that hold what is asked for.
        num_positive: Such samples, more than 0.
        true_negatives: Right answers among the samples that do not.
        num_negative: Such samples, more than 0. The two groups must be different samples.

    Returns:
        The mean with its interval; n is the number of samples of both groups.

    Raises:
        ValueError: The counts make no proportion.
    """
    rates = wilson(true_positives, num_positive), wilson(true_negatives, num_negative)
    return combine([(0.5, rate) for rate in rates])


def combine(terms: Sequence[tuple[float, Estimate]]) -> Estimate:
    """Weighted sum of independent estimates, with an interval recovered from theirs.

    MOVER, the method of variance estimates recovery (Zou & Donner 2008, Statistics in Medicine 27,
    1693-1702): each term's distance from its value to its end is its error on that side, and
    independent errors add in squares. With Wilson intervals and weights 1 and -1 it is Newcombe's
    tenth method for unpaired rates (1998, Statistics in Medicine 17, 873-890).

    Args:
        terms: Pairs (weight, estimate). A negative weight swaps the ends of its interval.

    Returns:
        The sum; n is the sum of theirs.
    """
    value = math.fsum(weight * term.value for weight, term in terms)
    below, above = [], []
    for weight, term in terms:
        low, high = sorted((weight * term.low, weight * term.high))
        below.append(weight * term.value - low)
        above.append(high - weight * term.value)
    n = sum(term.n for _, term in terms)
    return Estimate(value, value - math.hypot(*below), value + math.hypot(*above), n)


def _checked(floor: float) -> float:
    if not 0 <= floor <= 1:
        raise ValueError(f"a chance floor lies within 0..1, got {floor}")
    return floor
