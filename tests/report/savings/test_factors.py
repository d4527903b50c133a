"""How much gists save, how much NF4 does, and what contradicts a floor."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gistbench.records import NotMeasured
from gistbench.report.savings.corners import Saved, quantities
from gistbench.report.savings.factors import Factor, apart, factor
from tests.fixtures.savings import precision, savings_record

CORNERS: list[Any] = [("none", "full"), ("none", "gist"), ("nf4", "full"), ("nf4", "gist")]


def saved(*values: float, better: Any = "less", **fields: Any) -> Saved:
    found = Saved("quantity", better, str, **fields)
    found.values.update(dict(zip(CORNERS, values, strict=False)))
    return found


def within(found: Saved) -> Factor:
    result = factor(found, CORNERS[0], CORNERS[1])
    assert isinstance(result, Factor)
    return result


def test_a_factor_above_one_is_good_of_costs_and_of_rates() -> None:
    assert within(saved(8.0, 2.0)).value == 4
    assert within(saved(2.0, 8.0, better="more")).value == 4


def test_paired_rounds_give_an_interval_that_what_they_share_does_not_widen() -> None:
    drift = (1.0, 2.0, 3.0)
    rounds = {CORNERS[0]: tuple(3 * x for x in drift), CORNERS[1]: drift}
    found = within(saved(6.0, 2.0, rounds=rounds))
    assert (found.low, found.high) == (pytest.approx(3.0), pytest.approx(3.0))
    rounds[CORNERS[1]] = (1.0, 2.2, 2.8)
    found = within(saved(6.0, 2.0, rounds=rounds))
    assert found.low is not None and found.high is not None
    assert found.low < found.value < found.high


def test_a_ratio_above_its_floor_ratio_is_broken_and_one_at_it_is_not() -> None:
    floors: dict[Any, Any] = {CORNERS[0]: 4.0, CORNERS[1]: 2.0}
    assert within(saved(9.0, 4.0, floors=floors)).broken
    assert not within(saved(8.0, 4.0, floors=floors)).broken
    assert within(saved(8.0, 4.0, floors=floors)).floor == 2.0
    rounds = {CORNERS[0]: (9.0, 7.0, 9.0), CORNERS[1]: (4.0, 4.0, 4.0)}
    noisy = within(saved(9.0, 4.0, floors=floors, rounds=rounds))
    assert noisy.value > 2.0 and not noisy.broken
    assert "no more than the interval leaves open" in noisy.detail
    assert not within(
        saved(9.0, 4.0, floors={**floors, CORNERS[1]: NotMeasured(not_measured="x")})
    ).broken


def test_floors_of_rates_bound_from_above() -> None:
    floors: dict[Any, Any] = {CORNERS[0]: 10.0, CORNERS[1]: 30.0}
    assert within(saved(5.0, 14.0, better="more", floors=floors)).floor == 3.0
    assert not within(saved(5.0, 14.0, better="more", floors=floors)).broken
    assert within(saved(2.0, 14.0, better="more", floors=floors)).broken


def test_whole_contexts_leave_open_what_their_bracket_says() -> None:
    floors: dict[Any, Any] = {CORNERS[0]: 1 / 492.5, CORNERS[1]: 1.0}
    brackets: dict[Any, Any] = {CORNERS[0]: (28, 29), CORNERS[1]: (13_926, 14_065)}
    found = within(saved(28, 13_926, better="more", floors=floors, brackets=brackets))
    assert (found.low, found.high) == (13_926 / 29, 14_065 / 28)
    assert found.value > 492.5 and not found.broken
    brackets[CORNERS[1]] = (14_500, None)
    found = within(saved(28, 14_500, better="more", floors=floors, brackets=brackets))
    assert found.high is None and found.broken


def test_between_two_precisions_there_is_neither_interval_nor_floor() -> None:
    everywhere: dict[Any, Any] = dict.fromkeys(CORNERS, 1.0)
    rounds = dict.fromkeys(CORNERS, (1.0, 1.1))
    found = factor(
        saved(8.0, 4.0, 3.0, 1.0, floors=everywhere, rounds=rounds), CORNERS[0], CORNERS[2]
    )
    assert found == Factor(8 / 3)


@given(st.lists(st.floats(0.1, 100), min_size=4, max_size=4), st.sampled_from(["less", "more"]))
def test_either_order_multiplies_to_the_whole_and_its_shares_sum_to_one(
    values: list[float], better: str
) -> None:
    found = apart(saved(*values, better=better))
    steps = [*found.gists, *found.nf4, found.both]
    gists, after_nf4, nf4, after_gists, both = (
        step.value for step in steps if isinstance(step, Factor)
    )
    assert gists * after_gists == pytest.approx(both)
    assert nf4 * after_nf4 == pytest.approx(both)
    if isinstance(found.shares, tuple):
        first, then, other, last = found.shares
        assert first + then == pytest.approx(1.0)
        assert other + last == pytest.approx(1.0)


def test_memory_adds_up_so_both_orders_share_it_alike() -> None:
    found = apart(saved(15 + 19, 15 + 0.04, 5 + 19, 5 + 0.04))
    assert isinstance(found.shares, tuple)
    first, then, other, last = found.shares
    assert first == pytest.approx(last) and then == pytest.approx(other)
    assert then == pytest.approx(10 / 28.96)


def test_where_one_costs_or_nothing_is_saved_there_are_no_shares() -> None:
    assert apart(saved(8.0, 4.0, 9.0, 4.5)).shares == "one of the two costs where the other saves"
    assert apart(saved(1.0, 2.0, 1.0, 2.0)).shares == "together they save nothing"
    missing = apart(saved(8.0, 4.0))
    assert isinstance(missing.shares, NotMeasured) and isinstance(missing.both, NotMeasured)


def test_every_quantity_is_there_and_one_precision_alone_too() -> None:
    labels = [found.label for found in quantities(savings_record())]
    assert len(labels) == len(set(labels)) == 13
    for found in quantities(savings_record(precision("nf4"))):
        assert set(found.values) == {("nf4", "full"), ("nf4", "gist")}, found.label


def test_energy_counts_questions_and_every_token_of_the_answers() -> None:
    found = {item.label: item for item in quantities(savings_record())}
    energy = found["energy of an answered token, 32 contexts"].values
    assert energy["none", "gist"] == pytest.approx(500 * (0.2 + 0.01) / (32 * 25))
