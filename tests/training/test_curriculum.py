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


def config(**data: object) -> TrainConfig:
    fields = {"context_tokens": 400, "curriculum": (100, 200), "advance_accuracy": 0.9, **data}
    training = {"per_device_train_batch_size": 2}
    return TrainConfig.model_validate({"data": fields, "training": training})


def test_a_stage_ends_when_enough_steps_are_exact_and_not_before() -> None:
    curriculum = Curriculum(config())
    assert [curriculum.observe([(100, 8, 8)]) for _ in range(MIN_STEPS)] == [False] * 3 + [True]
    assert curriculum.context_tokens == 200
    assert not any(curriculum.observe([(200, 7, 8)]) for _ in range(30)), "0.875 is under 0.9"
    assert curriculum.context_tokens == 200


def test_a_new_stage_starts_counting_afresh() -> None:
    curriculum = Curriculum(config())
    for _ in range(MIN_STEPS):
        curriculum.observe([(100, 8, 8)])
    assert not any(curriculum.observe([(200, 8, 8)]) for _ in range(MIN_STEPS - 1))
    assert curriculum.observe([(200, 8, 8)])


def test_replayed_shorter_lengths_never_advance_a_stage() -> None:
    curriculum = Curriculum(config(), stage=1)
    assert not any(curriculum.observe([(100, 8, 8)]) for _ in range(50))
    assert curriculum.recent == []


def test_shortened_lengths_of_the_same_stage_do_count() -> None:
    curriculum = Curriculum(config(length_jitter=0.1))
    assert any(curriculum.observe([(91, 8, 8)]) for _ in range(MIN_STEPS))


def test_the_last_stage_never_ends() -> None:
    curriculum = Curriculum(config(), stage=2)
    assert not any(curriculum.observe([(400, 8, 8)]) for _ in range(50))
    assert curriculum.context_tokens == 400


def test_a_state_kept_as_json_goes_on_exactly_where_it_was() -> None:
    curriculum = Curriculum(config(), stage=1)
    curriculum.observe([(200, 8, 8)])
    curriculum.observe([(200, 5, 8)])
    restored = Curriculum(config())
    restored.restore(json.loads(json.dumps(curriculum.state())))
    assert (restored.stage, restored.recent) == (curriculum.stage, curriculum.recent)
    assert [restored.plan(n) for n in range(20)] == [curriculum.plan(n) for n in range(20)]
    outcomes = [(8, 8)] * 12
    assert [restored.observe([(200, *o)]) for o in outcomes] == [
        curriculum.observe([(200, *o)]) for o in outcomes
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
    steps = [[(100, 0, 8)], [(50, 8, 8)], [(100, 0, 8)]]
    assert [curriculum.observe(step) for step in steps] == [False, False, True]
    kept = curriculum.state()
    again = Curriculum(curriculum.config)
    again.restore(kept)
    assert [again.observe([(200, 0, 8)]) for _ in range(3)] == [False, False, True]
    assert not any(again.observe([(400, 0, 8)]) for _ in range(9)), "the last stage has no end"


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
