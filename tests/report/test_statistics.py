"""Statistics against published and hand-computed values."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gistbench.report.statistics import (
    holm,
    mcnemar,
    mean,
    mean_n_needed,
    newcombe,
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


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17, 2635-2650), examples, method 10
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((19, 12, 2, 17), 0.0562, 0.3290),
    ],
)
def test_paired_interval_equals_newcombes_own_examples(table, low, high):
    assert newcombe(*table) == pytest.approx((low, high), abs=5e-5)


def test_paired_interval_agrees_with_walds_in_a_large_sample():
    # Approval of the prime minister, Agresti, Categorical Data Analysis, table 10.1: 944 - 880 of
    # 1,600, standard error sqrt(0.1475 - 0.0016) / 40 = 0.00955, so 0.0213 to 0.0587
    assert newcombe(794, 150, 86, 570) == pytest.approx((0.0213, 0.0587), abs=2e-4)


def test_paired_interval_for_another_n_is_that_of_the_table_in_proportion():
    assert newcombe(12, 5, 2, 9, n=28 * 7) == pytest.approx(newcombe(84, 35, 14, 63), abs=1e-12)
    assert newcombe(12, 5, 2, 9, n=28) == newcombe(12, 5, 2, 9)


@given(st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=80, deadline=None)
def test_mcnemar_equals_scipys_exact_binomial_test(only_first, only_second):
    total = only_first + only_second
    expected = stats.binomtest(only_first, total).pvalue if total else 1.0
    assert mcnemar(only_first, only_second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(only_first, only_second) == mcnemar(only_second, only_first)


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_mcnemar_between_whole_counts_lies_between_their_p_values(more, fewer, part):
    between = mcnemar(more + fewer + 1 + part, fewer)
    assert mcnemar(more + fewer + 2, fewer) <= between * (1 + 1e-9)
    assert between <= mcnemar(more + fewer + 1, fewer) * (1 + 1e-9)


def test_holm_equals_the_hand_computed_example():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1; the last may not fall below 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.7, 0.9]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
@settings(max_examples=80, deadline=None)
def test_holm_is_the_closure_of_bonferroni(family):
    # Marcus, Peritz & Gabriel 1976: reject a hypothesis if every intersection it is in is rejected
    size = len(family)
    for index, adjusted in enumerate(holm(family)):
        subsets = (
            [family[other] for other in range(size) if bits >> other & 1]
            for bits in range(2**size)
            if bits >> index & 1
        )
        expected = max(min(1.0, len(subset) * min(subset)) for subset in subsets)
        assert adjusted == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
@settings(max_examples=60, deadline=None)
def test_holm_keeps_each_p_value_in_its_place(family, random):
    order = list(range(len(family)))
    random.shuffle(order)
    adjusted = holm(family)
    assert holm([family[index] for index in order]) == [adjusted[index] for index in order]
    assert all(own <= found <= 1 for own, found in zip(family, adjusted, strict=True))


@pytest.mark.parametrize("family", [[0.5, 1.1], [-0.1], [float("nan")]])
def test_holm_refuses_what_is_no_p_value(family):
    with pytest.raises(ValueError, match="p value"):
        holm(family)
