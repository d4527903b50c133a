"""A percentile is said only where enough was timed, and its interval is what it says."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gistbench.report.quantiles import quantile, values_needed


@pytest.mark.parametrize(("share", "needed"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368)])
def test_a_percentile_needs_both_ends_of_its_interval(share, needed):
    assert values_needed(share) == values_needed(1 - share) == needed
    assert quantile(list(range(needed - 1)), share) is None
    found = quantile(list(range(needed)), share)
    assert found is not None and found.high == needed - 1


@given(st.lists(st.floats(0, 1e3), min_size=6, max_size=500), st.sampled_from((0.5, 0.9, 0.99)))
def test_an_interval_holds_its_value_and_lies_within_the_data(values, share):
    found = quantile(values, share)
    if found is None:
        assert len(values) < values_needed(share)
    else:
        assert min(values) <= found.low <= found.value <= found.high <= max(values)
        assert found.n == len(values)


@pytest.mark.parametrize(("n", "share"), [(6, 0.5), (50, 0.9), (400, 0.99), (1000, 0.95)])
def test_the_interval_of_ranks_covers_at_95_percent_and_not_much_more_than_it_must(n, share):
    found = quantile(list(range(1, n + 1)), share)
    assert found is not None
    below = stats.binom(n, share)
    low, high = int(found.low), int(found.high)
    assert below.cdf(high - 1) - below.cdf(low - 1) >= 0.95
    assert below.cdf(low) > 0.025  # one rank further in would leave out too much
    assert below.cdf(high - 2) < 0.975


def test_the_order_of_the_values_does_not_matter():
    values = [random.Random(3).expovariate(1) for _ in range(80)]
    assert quantile(values, 0.9) == quantile(sorted(values), 0.9)


def test_a_share_that_is_none_is_a_bug():
    with pytest.raises(ValueError, match="between 0 and 1"):
        values_needed(1.0)
