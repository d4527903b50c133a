"""Claims about runs on RULER's tasks of lm-eval, beside gistbench's own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import gistbench.bench.run as bench_run
from gistbench.bench.samples import regenerate
from gistbench.config import RunConfig
from gistbench.errors import UsageError
from gistbench.records import RunRecord, SampleRecord
from gistbench.report import render
from gistbench.storage import read_json, read_jsonl
from gistbench.training.run import train
from tests.fixtures.in_process import InProcess, SilentDisplay
from tests.fixtures.tiny_base import NUM_GISTS, shared, tiny_config

MAX_TOKENS = 700
TASKS = ("niah_single_1", "niah_passkey")


@pytest.fixture(scope="module")
def ruler_run(tmp_path_factory: pytest.TempPathFactory, ruler_base: Path) -> Path:
    """A finished run of gist, full and both controls on one task of each kind."""
    pytest.importorskip("wonderwords")
    pytest.importorskip("nltk")

    def build(folder: Path) -> None:
        config = tiny_config(ruler_base, data={"context_tokens": 300}, training={"max_steps": 1})
        train(config, folder / "checkpoint", device="cpu")
        settings = RunConfig(
            checkpoint=str(folder / "checkpoint"),
            tasks=TASKS,
            context_tokens=MAX_TOKENS,
            samples=4,
            batch_size=2,
            device="cpu",
            dtype="float32",
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench_run, "run_worker", InProcess())
            bench_run.run(
                settings, folder / "run", display=SilentDisplay(), command="gistbench run"
            )

    return shared(tmp_path_factory, "ruler-run", build) / "run"


def samples(folder: Path, task: str = "niah_single_1") -> list[SampleRecord]:
    return [s for s in read_jsonl(folder / "samples.jsonl", SampleRecord) if s.task == task]


def test_every_arm_and_both_controls_answer_the_same_prompts(ruler_run: Path) -> None:
    by_arm = {
        arm: [
            (s.sample_id, s.prompt_sha256, s.expected) for s in samples(ruler_run) if s.arm == arm
        ]
        for arm in ("gist", "full", "swapped", "none")
    }
    assert by_arm["gist"] == by_arm["full"] == by_arm["swapped"] == by_arm["none"]
    assert [name for name, _, _ in by_arm["gist"]] == [
        f"niah_single_1/{MAX_TOKENS}/{index}" for index in range(4)
    ]
    assert {
        arm.name: arm.complete for arm in read_json(ruler_run / "run.json", RunRecord).arms
    } == {
        "gist": True,
        "full": True,
        "swapped": True,
        "none": True,
    }


def test_lengths_are_those_of_the_documents_and_never_beyond_what_was_asked(
    ruler_run: Path,
) -> None:
    found = samples(ruler_run)
    task = next(
        t for t in read_json(ruler_run / "run.json", RunRecord).tasks if t.name == "niah_single_1"
    )
    lengths = [s.context_tokens for s in found]
    assert task.context_tokens_range == (min(lengths), max(lengths))
    assert task.context_tokens == MAX_TOKENS
    for sample in found:
        assert sample.context_tokens + sample.question_tokens + 128 <= MAX_TOKENS
        slots = {"full": sample.context_tokens, "none": 0}
        assert sample.cache_tokens == slots.get(sample.arm, NUM_GISTS)


def test_scores_are_strict_and_lm_evals_own_metric_stays_beside_them(ruler_run: Path) -> None:
    for sample in samples(ruler_run):
        assert set(sample.scores) == {"exact_match", "string_match_all"}
        right = sample.expected in sample.output
        assert sample.scores["string_match_all"] == float(right)
        assert sample.excerpt_needle == sample.expected
    for sample in samples(ruler_run, "niah_passkey"):
        assert "digit_accuracy" in sample.scores


def test_a_donor_is_another_document_that_does_not_state_the_value(ruler_run: Path) -> None:
    found = [s for s in samples(ruler_run) if s.arm == "swapped"]
    prompts = {s.sample_id: regenerate(ruler_run, s.sample_id) for s in found}
    for sample in found:
        assert sample.donor_sample_id is not None
        assert sample.expected not in prompts[sample.donor_sample_id]


def test_a_sample_of_lm_evals_is_made_again_from_its_number(ruler_run: Path) -> None:
    sample = samples(ruler_run)[2]
    prompt = regenerate(ruler_run, sample.sample_id)
    assert hashlib.sha256(prompt.encode()).hexdigest() == sample.prompt_sha256
    assert prompt.startswith("A special magic number is hidden")


def test_the_scorecard_says_what_the_task_does_not_declare(ruler_run: Path) -> None:
    text = render(ruler_run).markdown.read_text(encoding="utf-8")
    assert "the task declares none" in text
    assert "every value occurs in the answer" in text
    assert f"asked for: {MAX_TOKENS}" in text


def test_more_samples_than_lm_eval_makes_are_refused_before_anything_is_loaded(
    tmp_path: Path, ruler_base: Path
) -> None:
    config = RunConfig(models=("full",), base=str(ruler_base), tasks=("ruler_vt",), samples=501)
    with pytest.raises(UsageError, match="pass --samples 500 or less"):
        bench_run.run(config, tmp_path / "run", display=SilentDisplay(), command="")
    assert not (tmp_path / "run").exists()
