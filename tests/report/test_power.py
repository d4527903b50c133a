"""Power of McNemar's exact test against published values and plain enumeration."""

from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gistbench.report.power import (
    DISCORDANCES,
    SIZES,
    detectable_difference,
    mcnemar_power,
    power_of_difference,
    power_table,
)

SHARES = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)


def test_power_equals_the_example_of_the_gpower_manual():
    # G*Power 3 manual, McNemar, after O'Brien 2002: odds ratio 0.25, discordance 0.4, 50 pairs,
    # one-sided 5 % = two-sided 10 % without the other tail (1e-6): power 0.839343, size 0.032578
    assert mcnemar_power(0.4, 0.2, 50, alpha=0.10) == pytest.approx(0.839343, abs=2e-5)
    assert mcnemar_power(0.4, 0.5, 50, alpha=0.10) / 2 == pytest.approx(0.032578, abs=1e-6)


def test_power_of_six_prompts_that_all_differ_is_hand_computed():
    # Only 6 : 0 rejects, 2 / 64 = 0.031; with five, 2 / 32 = 0.0625 does not
    assert mcnemar_power(1.0, 0.9, 6) == pytest.approx(0.9**6 + 0.1**6)
    assert mcnemar_power(1.0, 1.0, 5) == 0.0


@pytest.mark.parametrize(
    ("discordance", "share", "n"), [(0.3, 0.8, 25), (0.9, 0.6, 30), (0.1, 0.95, 40), (0, 1, 9)]
)
def test_power_equals_the_sum_over_all_outcomes(discordance, share, n):
    first, second = discordance * share, discordance * (1 - share)
    expected = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            if b + c and stats.binomtest(b, b + c).pvalue <= 0.05:
                ways = comb(n, b) * comb(n - b, c)
                expected += ways * first**b * second**c * (1 - discordance) ** (n - b - c)
    assert mcnemar_power(discordance, share, n) == pytest.approx(expected, abs=1e-12)


@given(SHARES, SHARES, SHARES, st.integers(1, 150))
@settings(max_examples=100, deadline=None)
def test_power_grows_with_the_imbalance_and_is_the_same_for_either_arm(discordance, one, two, n):
    near, far = sorted((one, two), key=lambda share: abs(share - 0.5))
    weaker, stronger = mcnemar_power(discordance, near, n), mcnemar_power(discordance, far, n)
    assert 0 <= weaker <= stronger + 1e-12
    assert stronger <= 1
    assert mcnemar_power(discordance, 1 - far, n) == pytest.approx(stronger, abs=1e-12)


@given(SHARES, st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_without_a_difference_it_rejects_in_at_most_5_percent(discordance, n):
    assert mcnemar_power(discordance, 0.5, n) <= 0.05


def test_a_difference_splits_the_discordant_prompts():
    # 8 % discordant, 2 points: 5 % for the first arm, 3 % for the second
    assert power_of_difference(0.08, 0.02, 500) == pytest.approx(mcnemar_power(0.08, 5 / 8, 500))
    assert power_of_difference(0.08, -0.02, 500) == pytest.approx(
        power_of_difference(0.08, 0.02, 500)
    )


@pytest.mark.parametrize(("discordance", "n"), [(0.05, 200), (0.1, 400), (0.2, 1000), (1.0, 50)])
def test_the_detectable_difference_is_where_power_reaches_80_percent(discordance, n):
    found = detectable_difference(discordance, n)
    assert found is not None
    assert power_of_difference(discordance, found, n) >= 0.8
    assert power_of_difference(discordance, found - 1e-6, n) < 0.8


def test_the_detectable_difference_is_near_the_normal_approximation_in_a_large_sample():
    # Connor 1987 (Biometrics 43, 207-211):
    # sqrt(n) d = 1.96 sqrt(psi) + 0.8416 sqrt(psi - d^2); the exact test needs a little more
    found = detectable_difference(0.2, 1000)
    assert found is not None
    approximate = 0.0396
    assert approximate * 1000**0.5 == pytest.approx(
        1.96 * 0.2**0.5 + 0.8416 * (0.2 - approximate**2) ** 0.5, rel=2e-3
    )
    assert approximate < found < 1.03 * approximate


def test_too_few_prompts_detect_nothing():
    # At 5 % of 100 prompts six or more differ in only 38 %, and fewer than six never reject
    assert detectable_difference(0.05, 100) is None
    assert mcnemar_power(0.05, 1.0, 100) == pytest.approx(1 - stats.binom.cdf(5, 100, 0.05))


def test_the_table_has_every_cell_and_larger_samples_see_smaller_differences():
    table = power_table()
    assert [(cell.discordance, cell.n) for cell in table] == [
        (discordance, n) for discordance in DISCORDANCES for n in SIZES
    ]
    for cell in table:
        assert cell.power == mcnemar_power(cell.discordance, 0.5 + 0.01 / cell.discordance, cell.n)
        assert cell.detectable == detectable_difference(cell.discordance, cell.n)
        assert cell.detectable is None or 0 < cell.detectable < cell.discordance
    for discordance in DISCORDANCES:
        row = [cell.detectable for cell in table if cell.discordance == discordance]
        seen = [value for value in row if value is not None]
        assert len(seen) >= 5
        assert row[-len(seen) :] == seen == sorted(seen, reverse=True)


def test_a_difference_above_the_discordance_has_no_power_figure():
    cells = power_table(difference=0.06, discordances=(0.05, 0.06), sizes=(200,))
    assert cells[0].power is None
    assert cells[0].detectable is not None
    assert cells[1].power == mcnemar_power(0.06, 1.0, 200)
    with pytest.raises(ValueError, match="discordance"):
        power_of_difference(0.05, 0.06, 200)


@pytest.mark.parametrize(
    ("discordance", "share", "n", "alpha"),
    [(1.1, 0.5, 10, 0.05), (0.1, -0.1, 10, 0.05), (0.1, 0.5, 0, 0.05), (0.1, 0.5, 10, 1)],
)
def test_impossible_designs_are_refused(discordance, share, n, alpha):
    with pytest.raises(ValueError, match="got"):
        mcnemar_power(discordance, share, n, alpha)


def test_a_target_power_lies_between_0_and_1():
    with pytest.raises(ValueError, match="target"):
        detectable_difference(0.1, 100, target=1)
