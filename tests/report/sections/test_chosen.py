"""What a large run shows is stated, the same every time, and has what a reader looks for."""

import pytest

from gistbench.report.sections import chosen as module
from gistbench.report.sections.chosen import choose, is_notable
from tests.fixtures.ladder_run import LadderRun

LADDER = LadderRun(
    tasks=("niah_passkey", "niah_update"),
    arms=("gist", "full", "full-tuned", "truncate-10", "truncate-64", "rag-10", "swapped", "none"),
    num_samples=150,
)


def never(sample):
    return False


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(module, "ALL_ANSWERS", 100)
    monkeypatch.setattr(module, "MAX_DRAWN", 10)
    monkeypatch.setattr(module, "MAX_NOTABLE", 30)


def test_a_small_run_is_shown_whole(read, gpu_run):
    found = choose(read(gpu_run), never)
    assert found.complete
    assert len(found.prompts) == found.num_prompts == 40
    assert [prompt.any_answer.index for prompt in found.prompts] == list(range(40))
    arms = ["gist", "full", "swapped", "none"]
    assert all(list(prompt.answers) == arms for prompt in found.prompts)


def test_a_large_run_shows_a_drawn_part_of_every_task_and_the_notable_answers(read, small_limits):
    found = choose(read(LADDER), never)
    assert not found.complete
    assert (len(found.prompts), len(found.drawn), found.num_prompts) == (40, 10, 300)
    tasks = [key.cell.task for key in found.drawn]
    assert tasks.count("niah_passkey") == tasks.count("niah_update") == 5
    for prompt in found.prompts:
        if prompt.key not in found.drawn:
            assert any(is_notable(sample, never) for sample in prompt.answers.values())


def test_what_is_drawn_does_not_depend_on_what_was_answered(read, small_limits):
    other = LADDER.but(rate=lambda arm, task, tokens: 0.5)
    assert choose(read(LADDER), never).drawn == choose(read(other), never).drawn


def test_rare_failures_are_all_there_however_many_another_arm_has(read, gpu_run, small_limits):
    hits = {"gist": 397, "full": 2, "swapped": 0, "none": 0}
    found = choose(read(gpu_run.but(num_samples=400, hits=hits)), never)
    answers = [prompt.answers["gist"] for prompt in found.prompts]
    assert sum(sample.scores["exact_match"] == 0 for sample in answers) == 3
    assert len(found.prompts) == 40


def test_what_gist_got_wrong_comes_before_what_others_did(read, gpu_run, small_limits):
    hits = {"full": 0, "gist": 375, "swapped": 0, "none": 0}
    found = choose(read(gpu_run.but(num_samples=400, hits=hits)), never)
    answers = [prompt.answers["gist"] for prompt in found.prompts]
    assert sum(sample.scores["exact_match"] == 0 for sample in answers) == 25
    assert len(found.prompts) == 40


def test_what_scorers_disagree_on_is_notable(read, gpu_run, small_limits):
    hits = {"gist": 400, "full": 400, "swapped": 0, "none": 0}
    evidence = read(gpu_run.but(num_samples=400, hits=hits))
    assert len(choose(evidence, never).prompts) == 10
    disputed = choose(evidence, lambda sample: sample.arm == "full" and sample.index == 123)
    assert 123 in {prompt.any_answer.index for prompt in disputed.prompts}


def test_arms_with_a_budget_answer_only_the_drawn_prompts(read, small_limits):
    found = choose(read(LADDER), never)
    for prompt in found.prompts:
        assert ("rag-10" in prompt.answers) == (prompt.key in found.drawn)
        assert "gist" in prompt.answers


def test_the_right_answer_of_a_control_is_notable_and_its_wrong_one_is_not(read, gpu_run):
    evidence = read(gpu_run.but(hits={"gist": 40, "full": 16, "swapped": 3, "none": 0}))
    notable = [s for s in evidence.samples("swapped") if is_notable(s, never)]
    assert len(notable) == 3
    assert not any(is_notable(s, never) for s in evidence.samples("gist"))
