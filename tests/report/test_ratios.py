"""The ratio of paired rates against hand computations, and against the difference's interval."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gistbench.report.ratios import paired_rate_ratio, ratio_n_needed
from gistbench.report.statistics import Estimate, PairedDifference, mcnemar, newcombe

COUNTS = st.tuples(*[st.integers(0, 60)] * 4)


def pairs(both, only_first, only_second, neither):
    n = both + only_first + only_second + neither
    low, high = newcombe(both, only_first, only_second, neither)
    gap = Estimate((only_first - only_second) / n, low, high, n)
    p_value = mcnemar(only_first, only_second)
    return PairedDifference(both, only_first, only_second, neither, gap, p_value)


def test_without_correlation_the_limits_are_those_of_the_closed_form():
    # 80 and 50 of 100, uncorrelated. Wilson: 0.71117 to 0.86663 and 0.40383 to 0.59617. By hand:
    # low  = (0.4 - sqrt(0.16 - 0.71117 * 0.88883 * 0.59617 * 0.40383)) / (0.59617 * 0.40383)
    # high = (0.4 + sqrt(0.16 - 0.86663 * 0.73337 * 0.40383 * 0.59617)) / (0.40383 * 0.59617)
    found = paired_rate_ratio([pairs(40, 40, 10, 10)])
    assert found.value == pytest.approx(1.6)
    assert (found.low, found.high) == pytest.approx((1.29418, 2.00868), abs=1e-5)


def test_with_many_prompts_it_is_the_delta_method_on_the_logarithm():
    # log ratio 0.1100, standard error sqrt((800 + 300) / (4800 * 4300)) = 0.0073003
    both, first, second, neither = 4000, 800, 300, 900
    error = math.sqrt((first + second) / ((both + first) * (both + second)))
    found = paired_rate_ratio([pairs(both, first, second, neither)])
    assert error == pytest.approx(0.0073003, abs=1e-7)
    assert math.log(found.low / found.value) == pytest.approx(-1.96 * error, rel=0.02)
    assert math.log(found.high / found.value) == pytest.approx(1.96 * error, rel=0.02)


@given(COUNTS)
@settings(max_examples=200, deadline=None)
def test_it_leaves_out_one_exactly_when_the_difference_leaves_out_zero(counts):
    if counts[0] + counts[2] == 0:
        return
    found, gap = paired_rate_ratio([pairs(*counts)]), pairs(*counts).difference
    near = 1e-6
    if abs(gap.low) > near and abs(gap.high) > near:
        assert (found.low > 1) == (gap.low > 0)
        assert (found.high < 1) == (gap.high < 0)
    assert 0 <= found.low <= found.value <= found.high


def test_an_arm_that_is_never_right_has_a_ratio_of_zero_with_an_upper_limit():
    found = paired_rate_ratio([pairs(0, 0, 50, 0)])
    assert (found.value, found.low) == (0, 0)
    assert 0.05 < found.high < 0.1


def test_tasks_weigh_the_same_however_many_prompts_they_have():
    found = paired_rate_ratio([pairs(10, 0, 10, 0), pairs(0, 0, 400, 0)])
    assert found.value == pytest.approx(0.25)  # (0.5 + 0) / (1 + 1), not 10 / 420
    assert found.n == 420


@given(COUNTS)
@settings(max_examples=50, deadline=None)
def test_the_same_task_twice_is_the_same_ratio_with_a_shorter_interval(counts):
    if counts[0] + counts[2] == 0:
        return
    one, two = paired_rate_ratio([pairs(*counts)]), paired_rate_ratio([pairs(*counts)] * 2)
    assert two.value == pytest.approx(one.value)
    assert two.high - two.low <= one.high - one.low + 1e-9


def test_no_ratio_to_an_arm_that_is_never_right():
    with pytest.raises(ValueError, match="never right"):
        paired_rate_ratio([pairs(0, 5, 0, 5)])
    with pytest.raises(ValueError, match="at least one task"):
        paired_rate_ratio([])


def test_the_n_needed_is_the_first_that_decides():
    tasks = [pairs(60, 10, 20, 10)]
    n = ratio_n_needed(tasks, 0.95)
    assert n is not None and n > 100
    at, before = (paired_rate_ratio(tasks, size / 100) for size in (n, n - 1))
    assert at.high < 0.95 <= before.high
    assert ratio_n_needed(tasks, 70 / 80) is None
