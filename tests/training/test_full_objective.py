"""Claims about training with the whole context visible: all of the gist training but the gists."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from gistbench.config import TrainConfig
from gistbench.errors import UsageError
from gistbench.models.loading import load_tokenizer
from gistbench.models.manifest import ADAPTER_FILE, MANIFEST_FILE, read_manifest
from gistbench.training.curriculum import Curriculum
from gistbench.training.data import SampleBatches
from gistbench.training.examples import IGNORED
from gistbench.training.plan import plan
from gistbench.training.run import train
from tests.fixtures.tiny_base import CONTEXT_TOKENS, NUM_GISTS, tiny_config


def full_config(base: Path, **changes: Any) -> TrainConfig:
    return tiny_config(base, objective="full", **changes)


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def first_batch(config: TrainConfig, base: Path, gist_ids: tuple[int, ...]) -> Any:
    batches = SampleBatches(config, Curriculum(config), base, load_tokenizer(base), gist_ids)
    try:
        return next(islice(batches, 1))
    finally:
        batches.close()


def test_the_first_loss_is_that_of_the_unmodified_model_under_transformers_own_attention(
    tiny_base: Path, tmp_path: Path
) -> None:
    """LoRA begins as nothing, so collation, layout and labels are all that could differ."""
    config = full_config(tiny_base, training={"max_steps": 1})
    train(config, tmp_path, device="cpu")
    plain = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()
    batch = first_batch(config, tiny_base, ())
    assert not batch["prefix_padding"].any()
    assert not batch["suffix_padding"].any()
    ids = torch.cat([batch["prefix_ids"], batch["suffix_ids"]], dim=1)
    labels = torch.full_like(ids, IGNORED)
    labels[:, -batch["labels"].shape[1] :] = batch["labels"]
    expected = plain(ids, labels=labels).loss.item()
    assert metrics(tmp_path)[0]["loss"] == pytest.approx(expected, abs=1e-4)


def test_it_trains_on_the_same_samples_tokens_and_start_as_gists(
    tiny_base: Path, tmp_path: Path
) -> None:
    ids = tuple(range(1000, 1000 + NUM_GISTS))
    with_gists = first_batch(tiny_config(tiny_base), tiny_base, ids)
    whole = first_batch(full_config(tiny_base), tiny_base, ())
    end = whole["prefix_ids"].shape[1]
    assert with_gists["prefix_ids"].shape[1] == end + NUM_GISTS
    assert torch.equal(with_gists["prefix_ids"][:, :end], whole["prefix_ids"])
    assert torch.equal(with_gists["suffix_ids"], whole["suffix_ids"])
    assert torch.equal(with_gists["labels"], whole["labels"])

    logs, starts = [], []
    for objective in ("gist", "full"):
        folder = tmp_path / objective
        still = {"learning_rate": 1e-12}
        config = tiny_config(tiny_base, objective=objective, training=still)
        train(config, folder, device="cpu")
        logs.append(metrics(folder))
        starts.append(load_file(folder / ADAPTER_FILE))
    for gist, full in zip(*logs, strict=True):
        for name in ("context_tokens_seen", "supervised_tokens", "learning_rate"):
            assert gist[name] == full[name]
    gists, lora = starts
    assert [name for name in gists if name not in lora] == [
        name for name in gists if "trainable_tokens" in name
    ]
    drawn = [name for name in lora if "lora_A" in name]
    assert drawn
    assert all(torch.equal(gists[name], lora[name]) for name in drawn)


def test_no_gists_are_trained_and_plan_log_and_manifest_say_so(
    tiny_base: Path, tmp_path: Path
) -> None:
    config = full_config(tiny_base)
    train(config, tmp_path, device="cpu")
    made = plan(config)
    assert (made.num_gists, made.compression_ratio, made.gist_cache_bytes) == (0, None, None)
    manifest = read_manifest(tmp_path)
    assert (manifest.objective, manifest.num_gists, manifest.gist_ids) == ("full", 0, ())
    assert manifest.trained_parameters == made.trainable_parameters
    assert manifest.max_trained_context_tokens == CONTEXT_TOKENS
    assert manifest.trained_on == ("niah_passkey",)
    text = (tmp_path / "training.md").read_text(encoding="utf-8")
    assert "gist tokens: none are trained: question and answer see the whole context" in text
    assert all("lora_" in name for name in load_file(tmp_path / ADAPTER_FILE))
    between = tmp_path / "checkpoint-2" / "full"
    assert read_manifest(between).objective == "full"


def test_the_context_is_learned_from(tiny_base: Path, tmp_path: Path) -> None:
    """Two samples by heart: questions are equal, so only the context can tell the answers apart."""
    config = full_config(
        tiny_base,
        adapter={"lora_rank": 16, "lora_alpha": 32},
        data={"num_samples": 2},
        training={"max_steps": 150, "learning_rate": 2e-2, "save_steps": 150, "logging_steps": 10},
    )
    train(config, tmp_path, device="cpu")
    log = metrics(tmp_path)
    assert log[-1]["loss"] < log[0]["loss"] / 20
    assert log[-1]["train_exact_match"] == 1


def test_gradient_checkpointing_and_logits_everywhere_change_no_loss(
    tiny_base: Path, tmp_path: Path
) -> None:
    losses = []
    for saving, answer_only in ((False, True), (True, True), (False, False)):
        folder = tmp_path / f"{saving}-{answer_only}"
        training = {"gradient_checkpointing": saving, "answer_logits_only": answer_only}
        train(full_config(tiny_base, training=training), folder, device="cpu")
        losses.append([entry["loss"] for entry in metrics(folder)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


def test_a_resumed_training_ends_where_an_unbroken_one_does(
    tiny_base: Path, tmp_path: Path
) -> None:
    config = full_config(tiny_base, training={"learning_rate": 1e-2})
    train(config, tmp_path / "whole", device="cpu")
    train(config, tmp_path / "cut", device="cpu")
    broken = tmp_path / "cut"
    for name in (MANIFEST_FILE, ADAPTER_FILE, "checkpoint-4/curriculum.json"):
        (broken / name).unlink()
    train(config, broken, device="cpu")
    one, other = (load_file(tmp_path / name / ADAPTER_FILE) for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


# ---------------------------------------------------------------------------------------- refusals


def test_gists_start_from_a_model_tuned_with_the_whole_context(
    tiny_base: Path, tmp_path: Path
) -> None:
    train(full_config(tiny_base, training={"learning_rate": 1e-2}), tmp_path / "full", device="cpu")
    still = {"max_steps": 1, "learning_rate": 1e-12}
    start = {"start_from": str(tmp_path / "full")}
    train(tiny_config(tiny_base, adapter=start, training=still), tmp_path / "gist", device="cpu")
    train(tiny_config(tiny_base, training=still), tmp_path / "anew", device="cpu")
    full, gist, anew = (
        load_file(tmp_path / name / ADAPTER_FILE) for name in ("full", "gist", "anew")
    )
    rows = gist.keys() - full.keys()
    assert len(rows) == 1
    assert all(torch.equal(gist[name], full[name]) for name in full)
    assert all(torch.equal(gist[name], anew[name]) for name in rows)


def test_the_whole_context_is_not_trained_from_gists(
    tiny_base: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    config = full_config(tiny_base, adapter={"start_from": str(tiny_checkpoint)})
    with pytest.raises(UsageError, match=r"adapter\.start_from .* objective full is needed"):
        train(config, tmp_path / "next", device="cpu")
    assert not (tmp_path / "next").exists()


def test_a_folder_of_one_objective_is_refused_to_the_other(
    tiny_base: Path, tiny_checkpoint: Path
) -> None:
    with pytest.raises(UsageError, match="objective 'gist', now 'full'"):
        train(full_config(tiny_base), tiny_checkpoint, device="cpu")


def test_a_gist_training_of_before_there_was_a_choice_is_still_known_as_finished(
    tiny_base: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_base, training={"max_steps": 1})
    train(config, tmp_path, device="cpu")
    path = tmp_path / MANIFEST_FILE
    old = json.loads(path.read_text(encoding="utf-8"))
    del old["objective"], old["training_config"]["objective"]
    path.write_text(json.dumps(old), encoding="utf-8")
    before = (tmp_path / ADAPTER_FILE).stat().st_mtime_ns
    assert train(config, tmp_path, device="cpu") == tmp_path
    assert (tmp_path / ADAPTER_FILE).stat().st_mtime_ns == before


def test_a_length_limit_counts_no_gists(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        train(full_config(tiny_base, data={"max_length": 170}), tmp_path / "run", device="cpu")
    assert "gists" not in str(caught.value)
    assert not (tmp_path / "run").exists()
