"""Paired verdicts: hand-made cases for each, and what must hold for all tables."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gistbench.report.paired import compare_arms, judge_paired
from gistbench.report.statistics import (
    Estimate,
    PairedDifference,
    holm,
    mcnemar,
    newcombe,
    paired_difference,
)

TABLES = st.tuples(*[st.integers(0, 80)] * 4).filter(any)
SMALL_DISCORDANCE = st.tuples(
    st.integers(0, 900), st.integers(0, 25), st.integers(0, 25), st.integers(0, 900)
).filter(any)
MARGINS = st.floats(0.005, 0.3)


def _paired(both, only_first, only_second, neither):
    n = both + only_first + only_second + neither
    limits = newcombe(both, only_first, only_second, neither)
    difference = Estimate((only_first - only_second) / n, *limits, n)
    return PairedDifference(
        both, only_first, only_second, neither, difference, mcnemar(only_first, only_second)
    )


def _swapped(table):
    both, only_first, only_second, neither = table
    return both, only_second, only_first, neither


@pytest.mark.parametrize(
    ("table", "verdict", "within"),
    [
        ((500, 60, 20, 420), "better", False),  # 4 points, p = 9e-6
        ((500, 20, 60, 420), "worse", False),
        ((900, 5, 5, 90), "equivalent", True),  # 0 points, about 0.6 to either side
        ((5000, 60, 20, 4920), "better", True),  # 0.4 points of 2: real, and does not matter
        ((300, 12, 6, 82), "non-inferior", False),  # 1.5 points, p = 0.24, low end near -0.7
        ((300, 6, 12, 82), "inconclusive", False),
        ((60, 6, 6, 28), "inconclusive", False),  # 0 points, about 7 to either side
    ],
)
def test_verdict_at_a_margin_of_2_points(table, verdict, within):
    found = judge_paired(_paired(*table))
    assert found.verdict == verdict
    assert found.within_margin is within
    assert (found.n_needed is not None) == (verdict == "inconclusive")


def test_an_interval_without_zero_is_not_better_while_the_exact_test_does_not_reject():
    # Bentur et al. 2009, arms swapped: 2.6 to 50.7 points, but p = 0.0703
    found = judge_paired(_paired(1, 7, 1, 12))
    assert found.paired.difference.low > 0
    assert found.verdict == "non-inferior"


def test_an_exact_test_that_rejects_is_not_better_while_the_interval_holds_zero():
    paired = PairedDifference(50, 20, 8, 22, Estimate(0.12, -0.001, 0.23, 100), 0.036)
    assert judge_paired(paired).verdict == "non-inferior"


def test_arms_are_compared_by_prompt_hash():
    first = {"a": True, "b": True, "c": False, "only here": False}
    second = {"c": True, "b": False, "a": True}
    found = compare_arms(first, second, margin=0.5)
    assert found.paired == paired_difference(first, second)
    assert (found.paired.only_first, found.paired.only_second) == (1, 1)
    assert found.margin == 0.5
    assert found.verdict == "inconclusive"


def test_a_p_value_adjusted_for_its_family_is_the_one_that_is_judged():
    paired = _paired(500, 36, 19, 445)  # p = 0.030
    adjusted, _, _ = holm([paired.p_value, 0.8, 0.9])
    assert judge_paired(paired).verdict == "better"
    found = judge_paired(paired, adjusted_p=adjusted)
    assert found.verdict == "non-inferior"
    assert found.p_value == pytest.approx(3 * paired.p_value)


def test_adjustment_raises_the_n_that_is_needed():
    paired = _paired(40, 8, 18, 34)  # -10 points, p = 0.08
    own = judge_paired(paired).n_needed
    adjusted = judge_paired(paired, adjusted_p=4 * paired.p_value).n_needed
    assert own is not None and adjusted is not None
    assert paired.difference.n < own < adjusted


@given(st.one_of(TABLES, SMALL_DISCORDANCE), MARGINS)
@settings(max_examples=150, deadline=None)
def test_swapping_the_arms_mirrors_the_verdict(table, margin):
    found = judge_paired(_paired(*table), margin)
    mirrored = judge_paired(_paired(*_swapped(table)), margin)
    allowed = {
        "better": {"worse"},
        "worse": {"better"},
        "equivalent": {"equivalent"},
        "non-inferior": {"inconclusive"},
        "inconclusive": {"inconclusive", "non-inferior"},
    }
    assert mirrored.verdict in allowed[found.verdict]
    assert mirrored.paired.difference.low == pytest.approx(-found.paired.difference.high)
    if found.verdict == mirrored.verdict == "inconclusive" and table[1] == table[2]:
        assert mirrored.n_needed == found.n_needed


@given(st.one_of(TABLES, SMALL_DISCORDANCE), MARGINS, st.floats(0, 0.3))
@settings(max_examples=150, deadline=None)
def test_a_wider_margin_never_says_less(table, margin, wider):
    strength = ["inconclusive", "non-inferior", "equivalent"]
    narrow = judge_paired(_paired(*table), margin).verdict
    wide = judge_paired(_paired(*table), margin + wider).verdict
    if narrow in strength:
        assert strength.index(wide) >= strength.index(narrow)
    else:
        assert wide == narrow


@given(TABLES, MARGINS, st.integers(2, 40))
@settings(max_examples=200, deadline=None)
def test_n_needed_is_where_the_same_shares_begin_to_decide(table, margin, times):
    found = judge_paired(_paired(*table), margin)
    if found.n_needed is None:
        return
    assert found.n_needed > found.paired.difference.n
    grown = judge_paired(_paired(*(count * times for count in table)), margin)
    decided = grown.verdict != "inconclusive"
    assert decided == (times * found.paired.difference.n >= found.n_needed)


def test_n_needed_at_no_difference_is_that_of_a_closing_interval():
    # Half-width about 1.96 sqrt(0.12 / n); 2 points are reached near 1.96^2 * 0.12 / 0.02^2 = 1,152
    needed = judge_paired(_paired(60, 6, 6, 28)).n_needed
    assert needed == pytest.approx(1152, rel=0.03)
    assert newcombe(60, 6, 6, 28, n=needed)[1] < 0.02 <= newcombe(60, 6, 6, 28, n=needed - 1)[1]


@pytest.mark.parametrize("margin", [0, -0.02, 1, float("nan")])
def test_a_margin_must_lie_between_0_and_1(margin):
    with pytest.raises(ValueError, match="margin"):
        judge_paired(_paired(1, 1, 1, 1), margin)


@pytest.mark.parametrize("adjusted", [0.01, 1.5])
def test_an_adjusted_p_value_is_never_below_its_own(adjusted):
    with pytest.raises(ValueError, match="adjusted"):
        judge_paired(_paired(300, 12, 6, 82), adjusted_p=adjusted)
