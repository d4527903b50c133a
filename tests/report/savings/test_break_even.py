"""Compressing once pays after so many questions, or never, or the rounds do not tell."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gistbench.records import NotMeasured
from gistbench.report.savings.break_even import BreakEven, break_even, crossing, whole
from tests.fixtures.savings import phase, precision

STEADY = (1.0, 1.0, 1.0)


def test_the_first_question_that_pays_is_the_first_behind_the_crossing() -> None:
    found = crossing([1.2] * 3, [0.5] * 3)
    assert (found.outcome, found.questions) == ("after", pytest.approx(2.4))
    assert found.text == "from 3 questions on"
    assert whole(2.0) == 3, "where the lines meet nothing is saved yet"
    assert crossing([-0.1] * 3, [0.5] * 3).text == "from the first question"


def test_gists_that_cost_more_at_every_question_never_pay() -> None:
    found = crossing([0.3] * 3, [-0.1] * 3)
    assert (found.outcome, found.text) == ("never", "never")
    assert "+300 ms before the first question, +100 ms for each" in found.detail
    assert crossing([0.3], [0.0]).outcome == "never"


def test_gists_that_are_read_faster_and_answer_slower_pay_for_a_while() -> None:
    found = crossing([-1.0] * 3, [-0.4] * 3)
    assert (found.outcome, found.text) == ("until", "only up to 2 questions")


def test_rounds_that_do_not_tell_the_sign_decide_nothing() -> None:
    found = crossing([1.0, 1.1, 0.9], [0.1, -0.1, 0.05])
    assert found.outcome == "undecided" and found.questions is None
    assert "within the noise of 3 rounds" in found.detail


def test_one_round_has_no_interval() -> None:
    found = crossing([1.0], [0.5])
    assert (found.questions, found.low) == (2.0, None)


@given(
    st.lists(st.tuples(st.floats(0.5, 2), st.floats(0.2, 0.4)), min_size=3, max_size=8),
)
def test_the_interval_holds_the_crossing_and_zero_lies_at_the_ends_of_its_line(
    rounds: list[tuple[float, float]],
) -> None:
    extra, saved = zip(*rounds, strict=True)
    found = crossing(extra, saved)
    assume(found.outcome == "after")
    assert found.low is not None and found.high is not None and found.questions is not None
    assert found.low <= found.questions * (1 + 1e-6) and found.questions <= found.high * (1 + 1e-6)
    n = len(saved)
    for end in (found.low, found.high):
        line = [x - end * y for x, y in rounds]
        centre = math.fsum(line) / n
        from scipy import stats

        spread = math.sqrt(math.fsum((z - centre) ** 2 for z in line) / (n - 1) / n)
        assert abs(centre) == pytest.approx(float(stats.t.ppf(0.975, n - 1)) * spread, abs=1e-6)


def test_both_rivals_are_counted_from_the_phases_a_row_at_a_time() -> None:
    made = precision("none")
    slow = [
        phase("none", "full", "compress", 1, 0.10),
        phase("none", "gist", "compress", 1, 0.165),
        phase("none", "full", "question", 32, 0.32),
        phase("none", "gist", "question", 32, 0.16),
        phase("none", "full", "decode", 32, 0.80),
        phase("none", "gist", "decode", 32, 0.64),
    ]
    found = made.model_copy(update={"phases": tuple(slow)})
    kept, again = (break_even(found, 32, rival) for rival in ("kept", "read again"))
    assert isinstance(kept, BreakEven) and isinstance(again, BreakEven)
    assert kept.questions == pytest.approx(6.5)
    assert kept.text == "from 7 questions on"
    assert again.questions == pytest.approx(1.5)
    assert again.text == "from 2 questions on"


def test_phases_without_times_are_not_measured() -> None:
    made = precision("none", phases=None)
    found = break_even(made, 32, "kept")
    assert isinstance(found, NotMeasured) and "was not asked for" in found.not_measured
    assert isinstance(break_even(precision("none"), 7, "kept"), NotMeasured)
