"""Statistics against published and hand-computed values."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gistbench.report.statistics import (
    mean,
    mean_n_needed,
    paired_difference,
    paired_ratio,
    wilson,
    wilson_n_needed,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17, 857-872), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_equals_the_published_one(successes, n, low, high):
    found = wilson(successes, n)
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=60, deadline=None)
def test_wilson_interval_equals_scipy(drawn):
    successes, n = drawn
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    found = wilson(successes, n)
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)
    assert found.low <= found.value <= found.high


def test_wilson_reaches_the_ends_exactly_and_never_has_width_zero():
    assert wilson(5, 5).high == 1.0
    assert wilson(0, 5).low == 0.0
    assert wilson(5, 5).low == pytest.approx(0.5655, abs=1e-4)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_proportions_are_refused(successes, n):
    with pytest.raises(ValueError, match="proportion"):
        wilson(successes, n)


@given(st.floats(0, 1), st.floats(0.01, 0.99))
@settings(max_examples=100, deadline=None)
def test_n_needed_is_the_first_n_that_decides(rate, threshold):
    needed = wilson_n_needed(rate, threshold)
    if needed is None:
        assert rate == pytest.approx(threshold, abs=1e-12)
        return

    def half_width(n):
        return 1.959963984540054 * math.sqrt(threshold * (1 - threshold) / n)

    assert abs(rate - threshold) > half_width(needed) * (1 - 1e-9)
    if needed > 1:
        assert abs(rate - threshold) <= half_width(needed - 1) * (1 + 1e-9)


def test_all_right_needs_35_samples_to_be_above_90_percent():
    assert wilson_n_needed(1.0, 0.9) == 35
    assert wilson(35, 35).low > 0.9 > wilson(34, 34).low


def test_a_rate_equal_to_the_threshold_is_never_decided():
    assert wilson_n_needed(0.9, 0.9) is None


def test_mean_has_students_interval():
    # Ten heights, hand-computed: mean 5.5, s = 3.02765, t(9) = 2.262157
    found = mean([float(value) for value in range(1, 11)])
    assert found is not None
    assert found.value == 5.5
    assert found.high - found.value == pytest.approx(2.262157 * 3.0276504 / math.sqrt(10), rel=1e-6)


def test_one_value_has_no_interval():
    assert mean([3.0]) is None
    assert paired_ratio([2.0], [1.0]) is None


def test_equal_values_have_an_interval_of_width_zero():
    found = mean([492.5] * 6)
    assert found is not None
    assert (found.low, found.value, found.high) == (492.5, 492.5, 492.5)


def test_n_needed_for_a_mean_decides_and_one_less_does_not():
    values = [1.0, 1.4, 0.9, 1.3]
    threshold = 1.0
    needed = mean_n_needed(values, threshold)
    assert needed is not None
    spread, gap = stats.tstd(values), abs(sum(values) / 4 - threshold)

    def half_width(n):
        return stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n)

    assert half_width(needed) < gap <= half_width(needed - 1)
    assert mean_n_needed([0.5, 1.5], 1.0) is None


def test_ratio_of_pairs_is_the_geometric_mean_with_a_t_interval_on_logarithms():
    found = paired_ratio([2.0, 8.0], [1.0, 1.0])
    assert found is not None
    assert found.value == pytest.approx(4.0)
    half = 12.706205 * math.log(4) / math.sqrt(2) / math.sqrt(2)
    assert math.log(found.high / found.value) == pytest.approx(half, rel=1e-6)
    inverse = paired_ratio([1.0, 1.0], [2.0, 8.0])
    assert inverse is not None
    assert inverse.low == pytest.approx(1 / found.high)


def _arms(both, only_first, only_second, neither):
    sides = [(True, True)] * both + [(True, False)] * only_first
    sides += [(False, True)] * only_second + [(False, False)] * neither
    return (
        {str(number): side[0] for number, side in enumerate(sides)},
        {str(number): side[1] for number, side in enumerate(sides)},
    )


def test_paired_difference_equals_the_published_example():
    # Airway data of Bentur et al. 2009, in Fagerland, Lydersen & Laake 2014 (Statistics in
    # Medicine 33, 2850-2875): Newcombe's interval -0.507 to -0.026, exact McNemar p = 0.0703
    found = paired_difference(*_arms(1, 1, 7, 12))
    assert found.difference.value == pytest.approx(-6 / 21)
    assert found.difference.low == pytest.approx(-0.507, abs=5e-4)
    assert found.difference.high == pytest.approx(-0.026, abs=5e-4)
    assert found.p_value == pytest.approx(0.0703, abs=5e-5)


def test_arms_that_agree_everywhere_do_not_differ():
    found = paired_difference(*_arms(10, 0, 0, 0))
    assert found.p_value == 1.0
    assert found.difference.value == 0
    assert found.difference.low <= 0 <= found.difference.high


def test_only_common_prompts_are_compared():
    found = paired_difference({"a": True, "b": True}, {"b": False, "c": True})
    assert (found.both, found.only_first, found.only_second, found.neither) == (0, 1, 0, 0)
    with pytest.raises(ValueError, match="in common"):
        paired_difference({"a": True}, {"b": True})
