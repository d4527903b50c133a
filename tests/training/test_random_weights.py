"""Training on random weights: the steps of the real one, and no claim about what was learned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gistbench.config import TrainConfig
from gistbench.config_files import validate
from gistbench.errors import UsageError
from gistbench.models.manifest import read_manifest
from gistbench.training import data
from gistbench.training.curriculum import Curriculum
from gistbench.training.examples import RANDOM_ANSWER_TOKENS, RANDOM_QUESTION_TOKENS, random_example
from gistbench.training.run import train
from tests.fixtures.tiny_base import tiny_config


@pytest.fixture
def config(tiny_base: Path) -> TrainConfig:
    return tiny_config(
        tiny_base, weights="random", data={"curriculum": [32, 64], "length_jitter": 0.2}
    )


def test_a_training_on_random_weights_says_that_nothing_was_learned(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "build_example", pytest.fail)
    folder = train(config, tmp_path / "out", device="cpu")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == config.training.max_steps
    for entry in map(json.loads, lines):
        for name in ("loss", "train_exact_match"):
            assert "random weights" in entry[name]["not_measured"]
        assert entry["context_tokens"] == config.data.context_tokens
    log = (folder / "training.md").read_text()
    rows = [line.split(" | ") for line in log.splitlines() if line.startswith("| 1 |")]
    assert (rows[0][3], rows[0][4]) == ("", "")
    assert "loss and exact answers mean nothing and are not measured" in log
    manifest = read_manifest(folder)
    assert manifest.base.fingerprint == "random weights, seed 0"
    assert manifest.max_trained_context_tokens == config.data.context_tokens
    assert manifest.trained_on == ()


def test_a_stopped_training_goes_on_with_the_same_weights(
    config: TrainConfig, tmp_path: Path
) -> None:
    whole = train(config, tmp_path / "whole", device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gistbench.training.run.TrainingLog.finish", _stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "cut", device="cpu")
    for path in (tmp_path / "cut").glob("*.json"):
        if path.name == "gist.json":
            path.unlink()
    newest = tmp_path / "cut" / "checkpoint-4" / "curriculum.json"
    newest.unlink()
    again = train(config, tmp_path / "cut", device="cpu")
    assert read_manifest(again).adapter_sha256 == read_manifest(whole).adapter_sha256


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_every_step_is_at_the_full_length(config: TrainConfig) -> None:
    plans = [Curriculum(config).plan(step) for step in range(20)]
    assert {(p.context_tokens, p.batch_size) for p in plans} == {(config.data.context_tokens, 2)}


def test_drawn_samples_have_fixed_lengths_and_differ() -> None:
    one, other = (random_example(50, context_tokens=40, index=i, seed=0) for i in (0, 1))
    (turn,) = one.turns
    lengths = (len(one.context), len(turn.question), len(turn.answer))
    assert lengths == (40, RANDOM_QUESTION_TOKENS, RANDOM_ANSWER_TOKENS)
    several = random_example(50, context_tokens=40, index=0, seed=0, num_questions=3)
    assert several.context == one.context
    assert [(len(turn.question), len(turn.answer)) for turn in several.turns] == [(15, 7)] * 3
    assert one.context != other.context
    assert one == random_example(50, context_tokens=40, index=0, seed=0)


def test_what_does_not_fit_is_refused_and_may_be_lengthened(
    config: TrainConfig, tmp_path: Path
) -> None:
    fields = config.model_dump()
    fields["data"]["context_tokens"] = 1020
    too_long = validate(TrainConfig, fields, "test")
    with pytest.raises(
        UsageError, match=r"1,046 tokens .* exceed the 1,024 .*--max-positions 1046"
    ):
        train(too_long, tmp_path, device="cpu")
    with pytest.raises(UsageError, match="max_positions lengthens random weights alone"):
        validate(TrainConfig, {"max_positions": 9000}, "test")
    fields["max_positions"] = 1046
    fields["training"]["max_steps"] = 1
    train(validate(TrainConfig, fields, "test"), tmp_path, device="cpu")
