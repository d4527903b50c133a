"""Rank comparisons against scipy, plain enumeration and a hand-computed case."""

from itertools import combinations
from math import inf, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gistbench.report.ranks import compare_ranks, least_p, one_sided_p

SECONDS = st.lists(st.integers(1, 10**6), min_size=3, max_size=8, unique=True)


def test_three_against_three_is_hand_computed():
    found = compare_ranks([1.0, 1.1, 1.2], [2.0, 2.2, 2.4])
    assert found.p_value == pytest.approx(1 / 20)  # one of the 20 orderings is as extreme
    assert found.cliffs_delta == 1
    assert found.ratio == pytest.approx(2.0)
    # All 9 ratios, and the smallest is a limit at exactly 5 %
    assert (found.low, found.high) == (pytest.approx(2.0 / 1.2), pytest.approx(2.4 / 1.0))


def test_two_against_two_have_no_limit_at_95_percent():
    found = compare_ranks([1, 2], [3, 4])
    assert least_p(2, 2) == pytest.approx(1 / 6)
    assert (found.low, found.high) == (0.0, inf)


def test_even_overlap_has_no_effect():
    found = compare_ranks([1, 4], [2, 3])
    assert found.cliffs_delta == 0


@given(SECONDS, SECONDS)
@settings(max_examples=60, deadline=None)
def test_the_limits_are_where_the_test_begins_to_reject(before, after):
    found = compare_ranks(before, after)
    expected = stats.mannwhitneyu(after, before, alternative="greater").pvalue
    if not set(before) & set(after):
        assert found.p_value == pytest.approx(expected)
    assert found.low <= found.ratio <= found.high
    if found.low:
        just_above = [value * found.low * (1 + 1e-9) for value in before]
        just_below = [value * found.low * (1 - 1e-9) for value in before]
        assert one_sided_p(just_below, after) <= 0.05 + 1e-12
        assert one_sided_p(just_above, after) > 0.05 or found.low == found.high


@given(SECONDS, SECONDS)
@settings(max_examples=60, deadline=None)
def test_swapping_the_sides_turns_everything_round(before, after):
    one, two = compare_ranks(before, after), compare_ranks(after, before)
    assert one.cliffs_delta == -two.cliffs_delta
    assert log(one.ratio) == pytest.approx(-log(two.ratio), abs=1e-9)
    if one.low:
        assert log(one.low) == pytest.approx(-log(two.high), abs=1e-9)


def test_the_p_value_counts_orderings():
    before, after = [1, 3, 5, 8], [4, 6, 7]
    observed = sum(late > early for late in after for early in before)
    ranks = range(7)
    as_extreme = total = 0
    for chosen in combinations(ranks, 3):
        rest = [rank for rank in ranks if rank not in chosen]
        total += 1
        as_extreme += sum(c > r for c in chosen for r in rest) >= observed
    assert one_sided_p(before, after) == pytest.approx(as_extreme / total)


@pytest.mark.parametrize(("before", "after"), [([], [1]), ([1], []), ([0, 1], [1]), ([1], [-1])])
def test_what_is_no_time_is_refused(before, after):
    with pytest.raises(ValueError, match="positive"):
        compare_ranks(before, after)
