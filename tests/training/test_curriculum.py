"""Claims about which batch comes next."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gistbench.config import TrainConfig
from gistbench.errors import UsageError
from gistbench.training.curriculum import MIN_STEPS, BatchPlan, Curriculum
from gistbench.training.focus import SLOTS, WINDOW_STEPS, divide


def config(**data: object) -> TrainConfig:
    fields = {"context_tokens": 400, "curriculum": (100, 200), "advance_accuracy": 0.9, **data}
    training = {"per_device_train_batch_size": 2}
    return TrainConfig.model_validate({"data": fields, "training": training})


def test_a_stage_ends_when_enough_steps_are_exact_and_not_before() -> None:
    curriculum = Curriculum(config())
    assert [curriculum.observe([(100, [(8, 8)])]) for _ in range(MIN_STEPS)] == [False] * 3 + [True]
    assert curriculum.context_tokens == 200
    assert not any(curriculum.observe([(200, [(7, 8)])]) for _ in range(30)), "0.875 is under 0.9"
    assert curriculum.context_tokens == 200


def test_a_new_stage_starts_counting_afresh() -> None:
    curriculum = Curriculum(config())
    for _ in range(MIN_STEPS):
        curriculum.observe([(100, [(8, 8)])])
    assert not any(curriculum.observe([(200, [(8, 8)])]) for _ in range(MIN_STEPS - 1))
    assert curriculum.observe([(200, [(8, 8)])])


def test_replayed_shorter_lengths_never_advance_a_stage() -> None:
    curriculum = Curriculum(config(), stage=1)
    assert not any(curriculum.observe([(100, [(8, 8)])]) for _ in range(50))
    assert curriculum.recent == []


def test_shortened_lengths_of_the_same_stage_do_count() -> None:
    curriculum = Curriculum(config(length_jitter=0.1))
    assert any(curriculum.observe([(91, [(8, 8)])]) for _ in range(MIN_STEPS))


def test_the_last_stage_never_ends() -> None:
    curriculum = Curriculum(config(), stage=2)
    assert not any(curriculum.observe([(400, [(8, 8)])]) for _ in range(50))
    assert curriculum.context_tokens == 400


def test_a_state_kept_as_json_goes_on_exactly_where_it_was() -> None:
    curriculum = Curriculum(config(), stage=1)
    curriculum.observe([(200, [(8, 8)])])
    curriculum.observe([(200, [(5, 8)])])
    restored = Curriculum(config())
    restored.restore(json.loads(json.dumps(curriculum.state())))
    assert (restored.stage, restored.recent) == (curriculum.stage, curriculum.recent)
    assert [restored.plan(n) for n in range(20)] == [curriculum.plan(n) for n in range(20)]
    outcomes = [(8, 8)] * 12
    assert [restored.observe([(200, [o])]) for o in outcomes] == [
        curriculum.observe([(200, [o])]) for o in outcomes
    ]


@pytest.mark.parametrize("lengths", [(200, 100), (100, 100), (500,)])
def test_a_curriculum_that_does_not_rise_is_refused(lengths: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="must rise strictly"):
        Curriculum(config(curriculum=lengths))


@given(micro_step=st.integers(0, 10**6), stage=st.integers(0, 2))
def test_a_plan_depends_on_seed_number_and_stage_alone(micro_step: int, stage: int) -> None:
    settings_ = config(replay=0.3, length_jitter=0.2)
    first = Curriculum(settings_, stage=stage).plan(micro_step)
    used = Curriculum(settings_, stage=stage, recent=[(1, 2)])
    used.plan(0)
    assert used.plan(micro_step) == first
    assert first.context_tokens <= (100, 200, 400)[stage]


@given(stage=st.integers(0, 2), micro_step=st.integers(0, 10**4))
def test_filled_batches_hold_about_the_same_number_of_tokens(stage: int, micro_step: int) -> None:
    plan = Curriculum(config(), stage=stage).plan(micro_step)
    assert plan.batch_size * plan.context_tokens == 2 * 400


def test_fresh_samples_never_repeat() -> None:
    """20,000 rows, more than the shipped recipe's first stages see."""
    indices = [
        BatchPlan(step, ("niah_passkey",), 0, 100, 20).sample_index(row, None, 0)
        for step in range(1000)
        for row in range(20)
    ]
    assert len(set(indices)) == len(indices)


@settings(max_examples=30)
@given(num_samples=st.integers(2, 40), batch_size=st.integers(1, 9), seed=st.integers(0, 99))
def test_a_fixed_set_passes_each_sample_once_an_epoch(
    num_samples: int, batch_size: int, seed: int
) -> None:
    wanted = 3 * num_samples
    seen = [
        BatchPlan(step, ("niah_passkey",), 0, 100, batch_size).sample_index(row, num_samples, seed)
        for step in range(-(-wanted // batch_size))
        for row in range(batch_size)
    ][:wanted]
    for first in range(0, wanted, num_samples):
        assert sorted(seen[first : first + num_samples]) == list(range(num_samples))


def test_a_fixed_set_comes_in_a_new_order_each_epoch() -> None:
    plans = [BatchPlan(step, ("niah_passkey",), 0, 100, 30) for step in range(4)]
    orders = [[plan.sample_index(row, 30, 0) for row in range(30)] for plan in plans]
    assert all(before != after for before, after in pairwise(orders))


def test_a_stage_that_is_not_mastered_ends_after_its_steps() -> None:
    curriculum = Curriculum(config(max_stage_steps=3))
    steps = [[(100, [(0, 8)])], [(50, [(8, 8)])], [(100, [(0, 8)])]]
    assert [curriculum.observe(step) for step in steps] == [False, False, True]
    kept = curriculum.state()
    again = Curriculum(curriculum.config)
    again.restore(kept)
    assert [again.observe([(200, [(0, 8)])]) for _ in range(3)] == [False, False, True]
    assert not any(again.observe([(400, [(0, 8)])]) for _ in range(9)), "the last stage has no end"


def test_each_stage_may_have_a_bound_of_its_own_and_the_last_holds_for_the_rest() -> None:
    for bounds, lasts in (((2, 4), [2, 4, 4]), ((3,), [3, 3, 3]), ((1, 2, 3), [1, 2, 3])):
        given = config(curriculum=(100, 200, 300), max_stage_steps=bounds)
        curriculum, taken = Curriculum(given), [0, 0, 0, 0]
        for _ in range(20):
            taken[curriculum.stage] += 1
            curriculum.observe([(curriculum.context_tokens, [(0, 8)])])
        assert taken == [*lasts, 20 - sum(lasts)], bounds


def test_a_stage_that_answers_too_little_goes_on_beyond_its_bound() -> None:
    curriculum = Curriculum(config(max_stage_steps=3, least_accuracy=0.5))
    assert not any(curriculum.observe([(100, [(0, 8)])]) for _ in range(30))
    assert not any(curriculum.observe([(50, [(8, 8)])]) for _ in range(30)), "replays say nothing"
    ends = [curriculum.observe([(100, [(5, 8)])]) for _ in range(8)]
    assert ends == [False] * 6 + [True, False], "35 of 64 are exact at the seventh"
    assert curriculum.context_tokens == 200
    assert not any(curriculum.observe([(100, [(8, 8)])]) for _ in range(30)), "of earlier lengths"


@pytest.mark.parametrize("bounds", [0, (3, 0), [-1]])
def test_a_bound_of_no_step_is_refused(bounds: object) -> None:
    with pytest.raises(ValueError, match="1 step at least"):
        config(max_stage_steps=bounds)


def test_every_batch_holds_all_tasks_alike() -> None:
    tasks = ("niah_passkey", "niah_labelled_2", "niah_labelled_4")
    curriculum = Curriculum(config(tasks=tasks))
    firsts = set()
    for step in range(30):
        plan = curriculum.plan(step)
        rows = [plan.tasks[plan.task_of(row)] for row in range(6)]
        assert sorted(rows) == sorted(2 * tasks)
        firsts.add(rows[0])
    assert firsts == set(tasks), "a batch of one row is to see all of them in the end"


TASKS = ("niah_passkey", "niah_labelled_2", "niah_labelled_4")


def observed(curriculum: Curriculum, rates: tuple[int, ...], steps: int) -> list[bool]:
    """Steps whose tasks have so many of 100 right."""
    step = [(curriculum.context_tokens, [(rate, 100) for rate in rates])]
    return [curriculum.observe(step) for _ in range(steps)]


def rows_of(curriculum: Curriculum, count: int = SLOTS) -> list[int]:
    plan = curriculum.plan(0)
    rows = [plan.task_of(row) for row in range(count)]
    return [rows.count(task) for task in range(len(TASKS))]


def test_rows_go_where_answers_are_wrong() -> None:
    curriculum = Curriculum(config(tasks=TASKS, focus=0.5), stage=2)
    assert rows_of(curriculum, 63) == [21, 21, 21], "nothing is known yet"
    observed(curriculum, (100, 50, 0), WINDOW_STEPS)
    solved, half, none = rows_of(curriculum)
    assert solved == pytest.approx(SLOTS / 6, abs=1.5), "its part of what goes to all alike"
    assert half == pytest.approx(SLOTS / 3, abs=1.5)
    assert none == pytest.approx(SLOTS / 2, abs=1.5)
    observed(curriculum, (100, 100, 100), WINDOW_STEPS)
    assert max(rows_of(curriculum)) - min(rows_of(curriculum)) <= 1, "all alike again"


def test_without_focus_rows_never_change() -> None:
    curriculum = Curriculum(config(tasks=TASKS), stage=2)
    before = [curriculum.plan(step) for step in range(20)]
    observed(curriculum, (100, 50, 0), 3 * WINDOW_STEPS)
    assert [curriculum.plan(step) for step in range(20)] == before


def test_small_batches_meet_the_tasks_in_the_same_proportions() -> None:
    curriculum = Curriculum(config(tasks=TASKS, focus=0.8), stage=2)
    observed(curriculum, (100, 60, 0), WINDOW_STEPS)
    turns = curriculum.plan(0).turns
    shares = [count / SLOTS for count in rows_of(curriculum)]
    for first in range(0, SLOTS, 8):
        part = turns[first : first + 8]
        assert all(abs(part.count(task) - 8 * share) <= 1.5 for task, share in enumerate(shares))


def test_with_focus_a_stage_is_mastered_when_the_mean_task_is() -> None:
    """Most rows are of the task that goes wrong, and say less of how many are right."""
    curriculum = Curriculum(config(tasks=TASKS, focus=0.9, advance_accuracy=0.9))
    step = [(100, [(10, 10), (10, 10), (64, 80)])]
    assert [curriculum.observe(step) for _ in range(MIN_STEPS)] == [False] * 3 + [True]
    alike = Curriculum(config(tasks=TASKS, advance_accuracy=0.9))
    assert not any(alike.observe(step) for _ in range(MIN_STEPS))


@pytest.mark.parametrize("least", [0.0, 0.5])
def test_what_a_task_answered_in_shorter_contexts_says_nothing_of_longer_ones(least: float) -> None:
    """Nor after a resume, nor of a bound that waits for what is answered."""
    bounds = {"max_stage_steps": (99, 2), "least_accuracy": least} if least else {}
    curriculum = Curriculum(config(tasks=TASKS, focus=0.5, advance_accuracy=0.9, **bounds))
    observed(curriculum, (100, 100, 100), MIN_STEPS)
    assert curriculum.stage == 1
    two_unmet = [(200, [(8, 8), (0, 0), (0, 0)])]
    assert not any(curriculum.observe(two_unmet) for _ in range(MIN_STEPS + 3))
    restored = Curriculum(curriculum.config)
    restored.restore(json.loads(json.dumps(curriculum.state())))
    for resumed in (curriculum, restored):
        assert not resumed.observe([(200, [(0, 0), (0, 0), (0, 0)])])
        assert resumed.observe([(200, [(8, 8), (8, 8), (8, 8)])])


def test_a_bound_that_waits_for_what_is_answered_needs_a_bound() -> None:
    with pytest.raises(UsageError, match=r"add --data\.max-stage-steps"):
        Curriculum(config(least_accuracy=0.5))


def test_a_focus_kept_as_json_goes_on_exactly_where_it_was() -> None:
    curriculum = Curriculum(config(tasks=TASKS, focus=0.5), stage=2)
    observed(curriculum, (90, 50, 10), WINDOW_STEPS + 3)
    restored = Curriculum(curriculum.config)
    restored.restore(json.loads(json.dumps(curriculum.state())))
    for rates in ((90, 50, 10), (100, 90, 40)):
        observed(curriculum, rates, WINDOW_STEPS)
        observed(restored, rates, WINDOW_STEPS)
        assert restored.plan(7) == curriculum.plan(7)


def test_a_new_stage_is_not_divided_by_what_the_one_before_answered() -> None:
    curriculum = Curriculum(config(tasks=TASKS, focus=0.5, max_stage_steps=WINDOW_STEPS + 5))
    observed(curriculum, (100, 50, 0), WINDOW_STEPS + 5)
    assert curriculum.stage == 1
    divided = rows_of(curriculum)
    observed(curriculum, (0, 100, 100), WINDOW_STEPS - 1)
    assert rows_of(curriculum) == divided, "a whole window of its own comes first"
    observed(curriculum, (0, 100, 100), 1)
    assert rows_of(curriculum)[0] > SLOTS / 2


def test_a_task_that_no_row_was_of_keeps_its_last_rate() -> None:
    curriculum = Curriculum(config(tasks=TASKS, focus=0.5), stage=2)
    observed(curriculum, (100, 100, 0), WINDOW_STEPS)
    before = rows_of(curriculum)
    unseen = [(400, [(100, 100), (0, 0), (0, 100)])]
    for _ in range(WINDOW_STEPS):
        curriculum.observe(unseen)
    assert rows_of(curriculum) == before


def test_replayed_micro_batches_are_left_out_of_a_step_and_the_others_count() -> None:
    curriculum = Curriculum(config(tasks=TASKS, focus=0.5), stage=2)
    own, replayed = [(100, 100), (100, 100), (0, 100)], [(0, 100), (0, 100), (100, 100)]
    for _ in range(WINDOW_STEPS):
        curriculum.observe([(400, own), (100, replayed)])
    assert curriculum.focus.rates() == [1.0, 1.0, 0.0]


@given(
    share=st.floats(0.01, 0.99),
    rates=st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_every_task_keeps_a_row_and_all_rows_are_given(share: float, rates: list[float]) -> None:
    slots = divide(share, rates)
    assert sum(slots) == SLOTS
    assert min(slots) >= 1


def test_first_tasks_are_trained_alone_until_mastered_and_then_all_at_the_same_length() -> None:
    fields: dict[str, object] = {"tasks": TASKS, "first_tasks": TASKS[1:2], "focus": 0.9}
    curriculum = Curriculum(config(**fields))
    assert rows_of(curriculum, 30) == [0, 30, 0]
    assert curriculum.title == "stage 1 of 4: niah_labelled_2 alone, contexts of 100 tokens"
    unsure, sure = ([(100, [(0, 0), (right, 100), (0, 0)])] for right in (85, 95))
    assert not any(curriculum.observe(unsure) for _ in range(WINDOW_STEPS))
    assert rows_of(curriculum, 30) == [0, 30, 0], "whatever the focus says of the others"
    assert [curriculum.observe(sure) for _ in range(WINDOW_STEPS)].count(True) == 1
    assert (curriculum.stage, curriculum.context_tokens) == (1, 100)
    assert min(rows_of(curriculum)) > 0
    for length in (200, 400):
        observed(curriculum, (95, 95, 95), WINDOW_STEPS)
        assert curriculum.context_tokens == length
    restored = Curriculum(config(**fields))
    restored.restore(json.loads(json.dumps(curriculum.state())))
    assert restored.plan(3) == curriculum.plan(3)
    assert not any(observed(curriculum, (100, 100, 100), 3 * WINDOW_STEPS)), "the last stage"


def test_first_tasks_are_mastered_by_their_share_of_exact_answers_without_focus_too() -> None:
    curriculum = Curriculum(config(tasks=TASKS, first_tasks=TASKS[1:2]))
    step = [(100, [(0, 0), (95, 100), (0, 0)])]
    assert [curriculum.observe(step) for _ in range(MIN_STEPS)] == [False] * 3 + [True]
    assert curriculum.title == "stage 2 of 4: all tasks, contexts of 100 tokens"


def test_a_step_of_several_micro_batches_counts_once() -> None:
    curriculum = Curriculum(config())
    step = [(100, [(8, 8)])] * 4
    assert [curriculum.observe(step) for _ in range(MIN_STEPS)] == [False] * 3 + [True]


def test_a_task_that_few_rows_are_of_is_judged_by_the_last_ones() -> None:
    curriculum = Curriculum(config(tasks=TASKS, focus=0.5), stage=2)
    curriculum.observe([(400, [(8, 8), (8, 8), (8, 8)])])
    for _ in range(9):
        curriculum.observe([(400, [(0, 0), (4, 8), (8, 8)])])
    assert curriculum.focus.rates(8) == [1.0, 0.5, 1.0]


def test_first_tasks_that_are_not_trained_are_refused() -> None:
    with pytest.raises(UsageError, match=r"first_tasks names all of data.tasks"):
        Curriculum(config(tasks=TASKS, first_tasks=TASKS))
    with pytest.raises(UsageError, match=r"first_tasks niah_uuid is not among data.tasks"):
        Curriculum(config(tasks=TASKS, first_tasks=("niah_uuid",)))
