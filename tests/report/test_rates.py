"""Floors and combined rates against published and hand-computed values."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gistbench.report.rates import at_floor, balanced_accuracy, combine, is_discriminative
from gistbench.report.statistics import wilson

PROPORTIONS = st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))

UNPAIRED = [
    # Newcombe 1998 (Statistics in Medicine 17, 873-890), table II, method 10
    ((56, 70), (48, 80), 0.0524, 0.3339),
    ((9, 10), (3, 10), 0.1705, 0.8090),
    ((6, 7), (2, 7), 0.0582, 0.8062),
    ((5, 56), (0, 29), -0.0381, 0.1926),
]


@pytest.mark.parametrize(("first", "second", "low", "high"), UNPAIRED)
def test_difference_of_unpaired_rates_equals_the_published_interval(first, second, low, high):
    found = combine([(1, wilson(*first)), (-1, wilson(*second))])
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("first", "second", "low", "high"), UNPAIRED)
def test_balanced_accuracy_is_half_of_one_plus_the_published_difference(first, second, low, high):
    # Right where nothing is to be found is one minus the second rate, and so is its interval
    successes, n = second
    found = balanced_accuracy(*first, n - successes, n)
    assert (found.low, found.high) == pytest.approx(((1 + low) / 2, (1 + high) / 2), abs=5e-5)
    assert found.value == pytest.approx((1 + first[0] / first[1] - successes / n) / 2)
    assert found.n == first[1] + n


@given(PROPORTIONS, PROPORTIONS)
@settings(max_examples=100, deadline=None)
def test_balanced_accuracy_does_not_know_which_group_is_which(one, two):
    found, swapped = balanced_accuracy(*one, *two), balanced_accuracy(*two, *one)
    assert (found.low, found.high) == pytest.approx((swapped.low, swapped.high))
    assert -1e-12 <= found.low <= found.value <= found.high <= 1 + 1e-12
    assert found.low < found.high
    wrong = balanced_accuracy(one[1] - one[0], one[1], two[1] - two[0], two[1])
    assert (wrong.low, wrong.high) == pytest.approx((1 - found.high, 1 - found.low))


def test_always_yes_is_50_percent_however_many_samples_ask_for_it():
    assert balanced_accuracy(990, 990, 0, 10).value == 0.5


@pytest.mark.parametrize(
    ("successes", "n", "floor", "floored", "discriminative"),
    [
        (30, 100, 0.25, True, False),  # Wilson 21.9 to 39.6 %
        (40, 100, 0.25, False, True),  # 30.9 to 49.8 %
        (10, 100, 0.25, False, False),  # 5.5 to 17.4 %, below guessing
        (0, 100, 0.0, True, False),
        (1, 100, 0.0, False, True),  # where guessing is never right, one right answer is more
        (5, 5, 1.0, True, False),
    ],
)
def test_at_the_floor_and_above_it(successes, n, floor, floored, discriminative):
    assert at_floor(successes, n, floor) is floored
    assert is_discriminative(successes, n, floor) is discriminative


@given(PROPORTIONS, st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_a_higher_floor_never_makes_a_task_discriminative(counts, one, two):
    low, high = sorted((one, two))
    assert is_discriminative(*counts, low) >= is_discriminative(*counts, high)
    assert not (at_floor(*counts, low) and is_discriminative(*counts, low))


@pytest.mark.parametrize("floor", [-0.1, 1.1, float("nan")])
def test_a_floor_is_a_rate(floor):
    with pytest.raises(ValueError, match="floor"):
        at_floor(1, 2, floor)
    with pytest.raises(ValueError, match="floor"):
        is_discriminative(1, 2, floor)
