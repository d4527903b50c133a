"""Claims about accuracy cells: what is a regression, what a pass, and what decides nothing."""

from __future__ import annotations

import pytest
from scipy import stats

from gistbench.gate.accuracy import Outcomes, count_outcomes, judge_cells
from gistbench.report.power import one_sided_power
from gistbench.report.statistics import mcnemar_one_sided

MARGIN, ALPHA = 0.05, 0.01


def judged(*cells: Outcomes) -> list[str]:
    return [cell.verdict for cell in judge_cells(cells, margin=MARGIN, alpha=ALPHA)]


@pytest.mark.parametrize(("lost", "gained"), [(1, 0), (7, 0), (9, 4), (3, 8), (20, 20)])
def test_the_one_sided_test_is_the_binomial_tail(lost: int, gained: int) -> None:
    expected = stats.binomtest(lost, lost + gained, alternative="greater").pvalue
    assert mcnemar_one_sided(lost, gained) == pytest.approx(expected)


def test_nothing_lost_has_a_p_value_of_one() -> None:
    assert mcnemar_one_sided(0, 0) == mcnemar_one_sided(0, 12) == 1.0


def test_one_sided_power_is_the_sum_over_all_outcomes() -> None:
    n, discordance, loss, alpha = 30, 0.4, 0.3, 0.01
    p_lost, p_gained = (discordance + loss) / 2, (discordance - loss) / 2
    expected = sum(
        stats.multinomial.pmf(
            [lost, gained, n - lost - gained], n, [p_lost, p_gained, 1 - discordance]
        )
        for lost in range(n + 1)
        for gained in range(n + 1 - lost)
        if mcnemar_one_sided(lost, gained) <= alpha
    )
    assert one_sided_power(discordance, loss, n, alpha) == pytest.approx(expected)


def test_a_loss_that_the_test_finds_is_a_regression() -> None:
    assert judged(Outcomes(380, 20, 0, 0)) == ["regression"]
    assert judged(Outcomes(380, 7, 0, 13)) == ["regression"]  # 1/128
    assert judged(Outcomes(380, 6, 0, 14)) == ["pass"]  # 1/64, and under five points in all


def test_a_gain_is_never_a_regression() -> None:
    assert judged(Outcomes(300, 0, 100, 0)) == ["pass"]


def test_the_same_answers_pass_where_there_are_enough_of_them() -> None:
    assert judged(Outcomes(180, 0, 0, 20)) == ["pass"]
    (few,) = judge_cells([Outcomes(18, 0, 0, 2)], margin=MARGIN, alpha=ALPHA)
    assert few.verdict == "inconclusive"
    assert few.n_needed is not None
    share = few.n_needed / 20
    grown = few.outcomes.limits(20 * share)[0]
    assert grown > -MARGIN >= few.outcomes.limits(20 * share - 1)[0]


def test_many_cells_ask_for_more_evidence_in_each() -> None:
    """7 : 0 is found alone and not among 51 cells: Holm's method asks for 0.01 / 51."""
    cell, quiet = Outcomes(350, 7, 0, 43), Outcomes(360, 0, 0, 40)
    assert judged(cell) == ["regression"]
    assert "regression" not in judged(cell, *[quiet] * 50)
    assert judged(Outcomes(350, 13, 0, 37), *[quiet] * 50)[0] == "regression"


def test_cells_with_nothing_to_lose_are_no_tests() -> None:
    """They pass, and ask for no more evidence in the others."""
    cell, hopeless = Outcomes(350, 7, 0, 43), Outcomes(0, 0, 3, 17)
    assert judged(cell, *[hopeless] * 50) == ["regression", *["pass"] * 50]


def test_what_is_neither_names_the_n_that_decides() -> None:
    (found,) = judge_cells([Outcomes(150, 18, 12, 20)], margin=MARGIN, alpha=ALPHA)
    assert found.verdict == "inconclusive"
    assert found.n_needed is not None and found.n_needed > 200
    factor = found.n_needed / 200
    low, _ = found.outcomes.limits(found.n_needed)
    assert low > -MARGIN or mcnemar_one_sided(18 * factor, 12 * factor) <= ALPHA


def test_answers_to_other_prompts_are_not_paired() -> None:
    with pytest.raises(ValueError, match="not the same"):
        count_outcomes({"a": True, "b": True}, {"a": True, "c": True})
    counted = count_outcomes(
        {"a": True, "b": True, "c": False, "d": False},
        {"a": True, "b": False, "c": True, "d": False},
    )
    assert counted == Outcomes(1, 1, 1, 1)
