"""Effective lengths against published and hand-computed values."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gistbench.report.lengths import effective_length


@pytest.mark.parametrize(
    ("percents", "expected"),
    [
        # Base score and scores at 1K to 32K, NoLiMa (arXiv 2502.05167), and its effective length
        ((99.3, 98.1, 98.0, 95.7, 89.2, 81.6, 69.7), 8_000),
        ((97.3, 94.2, 87.4, 81.5, 72.1, 59.5, 42.7), 2_000),
    ],
)
def test_effective_length_equals_the_published_one(percents, expected):
    lengths = (500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000)
    counts = {
        length: (round(percent * 10), 1000)
        for length, percent in zip(lengths, percents, strict=True)
    }
    found = effective_length(counts)
    assert found is not None
    assert found.length_tokens == expected
    assert not found.reaches_longest


def test_a_length_after_one_that_failed_does_not_count():
    found = effective_length({8000: (95, 100), 1000: (100, 100), 4000: (20, 100), 2000: (99, 100)})
    assert found is not None
    assert found.length_tokens == 2000
    assert [score.length_tokens for score in found.scores] == [1000, 2000, 4000, 8000]
    assert not found.is_open


def test_exactly_85_percent_is_kept_and_one_less_is_not_but_either_is_open():
    # In floating point 0.578 - 0.85 * 0.68 is below 0
    for n, base, score in ((20, 20, 17), (1000, 1000, 850), (1000, 680, 578)):
        kept = effective_length({1000: (base, n), 2000: (score, n)})
        lost = effective_length({1000: (base, n), 2000: (score - 1, n)})
        assert kept is not None and lost is not None
        assert kept.length_tokens == 2000
        assert kept.reaches_longest
        assert lost.length_tokens == 1000
        for found in (kept, lost):
            assert (found.low_tokens, found.high_tokens) == (1000, 2000)
            assert found.is_open


def test_interval_of_the_excess_is_the_hand_computed_one():
    # 80 of 100 against 0.85 of 90 of 100: 0.035. Wilson 71.1 to 86.7 % and 82.6 to 94.5 %:
    # below sqrt(0.0888^2 + (0.85 * 0.0448)^2) = 0.0967,
    # above sqrt(0.0667^2 + (0.85 * 0.0744)^2) = 0.0919
    found = effective_length({1000: (90, 100), 2000: (80, 100)})
    assert found is not None
    excess = found.scores[1].excess
    assert excess.value == pytest.approx(0.035)
    assert excess.low == pytest.approx(0.035 - 0.0967, abs=2e-4)
    assert excess.high == pytest.approx(0.035 + 0.0919, abs=2e-4)


COUNTS = st.dictionaries(
    st.integers(100, 10_000), st.tuples(st.integers(0, 60), st.just(60)), min_size=1, max_size=6
)


@given(COUNTS, st.floats(0.05, 1), st.floats(0.05, 1))
@settings(max_examples=150, deadline=None)
def test_asking_for_more_never_lengthens_and_the_decided_value_lies_between_its_ends(
    counts, one, two
):
    less, more = sorted((one, two))
    lenient, strict = effective_length(counts, less), effective_length(counts, more)
    if counts[min(counts)][0] == 0:
        assert lenient is None and strict is None
        return
    assert lenient is not None and strict is not None
    assert strict.length_tokens <= lenient.length_tokens
    for found in (lenient, strict):
        assert found.low_tokens <= found.length_tokens <= found.high_tokens
        assert found.reaches_longest == (found.length_tokens == max(counts))


def test_a_base_score_of_zero_leaves_nothing_to_keep():
    assert effective_length({1000: (0, 50), 2000: (0, 50)}) is None


def test_one_length_is_its_own_effective_length():
    found = effective_length({1000: (1, 50)})
    assert found is not None
    assert (found.low_tokens, found.length_tokens, found.high_tokens) == (1000, 1000, 1000)
    assert found.reaches_longest


def test_no_length_and_no_share_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        effective_length({})
    for share in (0, 1.01):
        with pytest.raises(ValueError, match="share"):
            effective_length({1000: (1, 2)}, share)
