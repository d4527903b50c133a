"""Training that starts from a trained checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from gistbench.errors import UsageError
from gistbench.models.manifest import ADAPTER_FILE, read_manifest
from gistbench.training.run import train
from tests.fixtures.tiny_base import tiny_config


def test_training_starts_at_the_weights_of_the_checkpoint(
    tiny_base: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    config = tiny_config(
        tiny_base,
        adapter={"start_from": str(tiny_checkpoint)},
        training={"max_steps": 1, "learning_rate": 1e-12},
    )
    train(config, tmp_path / "next", device="cpu")
    before = load_file(tiny_checkpoint / ADAPTER_FILE)
    after = load_file(tmp_path / "next" / ADAPTER_FILE)
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)
    anew = tiny_config(tiny_base, training={"max_steps": 1, "learning_rate": 1e-12})
    train(anew, tmp_path / "anew", device="cpu")
    fresh = load_file(tmp_path / "anew" / ADAPTER_FILE)
    assert any(not before[name].equal(fresh[name]) for name in before)


def test_a_checkpoint_of_another_shape_is_refused(
    tiny_base: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_base, adapter={"start_from": str(tiny_checkpoint), "lora_rank": 2})
    with pytest.raises(UsageError, match=r"another shape .* adapter fields"):
        train(config, tmp_path / "next", device="cpu")
    assert not (tmp_path / "next").exists()


def test_where_the_base_answered_a_half_that_answers_starts_from_the_base(
    tiny_base: Path, tmp_path: Path
) -> None:
    one = tiny_config(tiny_base, adapter={"answer_with": "base"}, training={"max_steps": 1})
    train(one, tmp_path / "one", device="cpu")
    two = tiny_config(
        tiny_base,
        adapter={"start_from": str(tmp_path / "one"), "answer_with": "own"},
        training={"max_steps": 1, "learning_rate": 1e-12},
    )
    train(two, tmp_path / "two", device="cpu")
    before, after = (load_file(tmp_path / name / ADAPTER_FILE) for name in ("one", "two"))
    second = {name: w.chunk(2, dim=1)[1] for name, w in after.items() if "lora_B" in name}
    assert second and all(half.abs().max() < 1e-9 for half in second.values())
    assert all(after[name].chunk(2, dim=1)[0].equal(before[name]) for name in second)


def test_weights_that_read_and_answered_may_become_two_and_never_one_again(
    tiny_base: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    config = tiny_config(
        tiny_base,
        adapter={"start_from": str(tiny_checkpoint), "answer_with": "own"},
        training={"max_steps": 1, "learning_rate": 1e-12},
    )
    train(config, tmp_path / "two", device="cpu")
    before = load_file(tiny_checkpoint / ADAPTER_FILE)
    after = load_file(tmp_path / "two" / ADAPTER_FILE)
    assert before.keys() == after.keys()
    for name, weight in before.items():
        dim = 0 if "lora_A" in name else 1
        halves = after[name].chunk(2, dim) if "lora_" in name else (after[name],)
        assert all(half.equal(weight) for half in halves), name
    two = str(tmp_path / "two")
    for adapter in ({"lora_rank": 8, "lora_alpha": 16}, {"answer_with": "base"}):
        config = tiny_config(tiny_base, adapter={"start_from": two, **adapter})
        with pytest.raises(UsageError, match=r"by two LoRA.*pass --adapter.answer-with own"):
            train(config, tmp_path / "one", device="cpu")
    config = tiny_config(tiny_base, adapter={"start_from": two, "answer_with": "own"})
    train(config, tmp_path / "on", device="cpu")


def test_weights_of_another_scale_are_refused(
    tiny_base: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_base, adapter={"start_from": str(tiny_checkpoint), "lora_alpha": 16})
    said = (
        r"another LoRA scale, and at 4 instead of 2 its weights .*; pass --adapter\.lora-alpha 8$"
    )
    with pytest.raises(UsageError, match=said):
        train(config, tmp_path / "next", device="cpu")
    assert not (tmp_path / "next").exists()


@pytest.mark.parametrize("whole", [(), ("embed_tokens", "lm_head")])
def test_whole_modules_of_a_model_without_gist_rows_are_refused(
    tiny_base: Path, tmp_path: Path, whole: tuple[str, ...]
) -> None:
    """With and without whole modules of its own: neither could take them."""
    adapter = {"modules_to_save": ["embed_tokens", "lm_head"]}
    training = {"max_steps": 1}
    tuned = tiny_config(tiny_base, objective="full", adapter=adapter, training=training)
    train(tuned, tmp_path / "full", device="cpu")
    start = {"start_from": str(tmp_path / "full"), "modules_to_save": whole}
    said = (
        r"has whole modules \(embed_tokens, lm_head\), and gists can start from LoRA alone, .*; "
        r"name .*--objective full` wrote without adapter\.modules_to_save$"
    )
    with pytest.raises(UsageError, match=said):
        train(tiny_config(tiny_base, adapter=start), tmp_path / "gist", device="cpu")
    assert not (tmp_path / "gist").exists()


@pytest.mark.parametrize(("objective", "longest"), [("gist", 200), ("full", 160)])
def test_an_heir_has_written_gists_at_its_parents_lengths_if_the_parent_wrote_any(
    tiny_base: Path, tmp_path: Path, objective: str, longest: int
) -> None:
    def trained(name: str, tokens: int, task: str, **changes: Any) -> Path:
        config = tiny_config(
            tiny_base,
            data={"context_tokens": tokens, "tasks": (task,)},
            training={"max_steps": 1},
            **changes,
        )
        return train(config, tmp_path / name, device="cpu")

    parent = trained("parent", 200, "niah_passkey", objective=objective)
    heir = trained("heir", 160, "niah_absent", adapter={"start_from": str(parent)})
    manifest = read_manifest(heir)
    assert manifest.max_trained_context_tokens == longest
    assert manifest.trained_on == ("niah_passkey", "niah_absent")
    assert manifest.parent_sha256 == read_manifest(parent).adapter_sha256
