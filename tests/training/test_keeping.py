"""Claims about the loss that keeps an adapter from forgetting."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from gistbench.config import TrainConfig
from gistbench.errors import UsageError
from gistbench.launch import Launch
from gistbench.models.adapter import add_adapter, add_gist_rows
from gistbench.models.architectures import settled
from gistbench.models.catalog import file_sha256, find_model
from gistbench.models.checkpoint import load_checkpoint
from gistbench.models.loading import BaseModel, load_base
from gistbench.models.manifest import MANIFEST_FILE
from gistbench.models.switch import base_weights
from gistbench.training import keeping
from gistbench.training.forgetting import text_logits
from gistbench.training.keeping import (
    GREEDY_TOKENS,
    WINDOWS_A_STEP,
    Keeping,
    keeping_of,
    require_keepable,
    sampled_text,
)
from gistbench.training.run import train
from gistbench.training.share import Share
from tests.fixtures.tiny_base import tiny_config, write_tiny_base

ALONE = Launch(0, 1, 0, 1)
TIMES = ("seconds", "seconds_per_step", "epoch")
LENGTH = 40


@pytest.fixture(autouse=True)
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "WINDOW_TOKENS", LENGTH)


@pytest.fixture
def base(tiny_base: Path) -> BaseModel:
    return load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu")


@pytest.fixture
def changed(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint whose adapter does something; training starts from it."""
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "changed"))
    torch.manual_seed(0)
    path = folder / "adapter_model.safetensors"
    save_file({name: 0.2 * torch.randn_like(old) for name, old in load_file(path).items()}, path)
    fields = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    fields["adapter_sha256"] = file_sha256(path)
    (folder / MANIFEST_FILE).write_text(json.dumps(fields), encoding="utf-8")
    return folder


def metrics(folder: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").open(encoding="utf-8")]
    return [{key: v for key, v in entry.items() if key not in TIMES} for entry in entries]


def divergence(checkpoint: Path, text: torch.Tensor, tiny_base: Path) -> float:
    """KL(base || checkpoint) in nats per token, by the definition and in float64."""
    plain = load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu")
    other = load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu")
    objective = json.loads((checkpoint / MANIFEST_FILE).read_text(encoding="utf-8"))["objective"]
    trained = load_checkpoint(other, checkpoint, objective=objective)
    with torch.no_grad():
        p, q = (
            text_logits(model, text)[..., : plain.num_text_tokens].double().softmax(-1)
            for model in (plain.model, trained.model)
        )
    return float((p * (p.log() - q.log())).sum(-1).mean())


# ------------------------------------------------------------------------------------- the text


def test_the_text_is_what_the_model_says_at_temperature_one(base: BaseModel) -> None:
    """Greedy at first; then as likely to itself as its own entropy says."""
    text = sampled_text(base, 48, LENGTH, seed=0)
    assert text.shape == (48, LENGTH)
    with torch.no_grad():
        logits = text_logits(base.model, text)[:, :-1, : base.num_text_tokens].float()
    logits[..., base.tokenizer.all_special_ids] = -torch.inf
    assert torch.equal(text[:, 1 : GREEDY_TOKENS + 1], logits.argmax(-1)[:, :GREEDY_TOKENS])
    assert len(set(text[:, 0].tolist())) > 40, "windows begin anywhere in the vocabulary"
    chosen = text[:, GREEDY_TOKENS + 1 :].unsqueeze(-1)
    logs = logits[:, GREEDY_TOKENS:].log_softmax(-1)
    surprise = -logs.gather(-1, chosen).mean()
    entropy = torch.special.entr(logs.exp()).sum(-1).mean()
    assert surprise.item() == pytest.approx(entropy.item(), rel=0.03)


def test_the_text_holds_no_gist_no_special_token_and_no_row_without_a_token(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the model would say nothing else."""
    said = len(base.tokenizer) - 3
    monkeypatch.setattr(type(base.tokenizer), "__len__", lambda _: said)
    add_gist_rows(base.model, 4)
    (special,) = base.tokenizer.all_special_ids
    wanted = [special, *range(said, base.num_text_tokens + 4)]

    def louder(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        output[..., wanted] += 100
        return output

    base.model.get_output_embeddings().register_forward_hook(louder)
    text = sampled_text(base, 16, LENGTH, seed=0)
    assert not torch.isin(text, torch.tensor(wanted)).any()


def test_every_process_has_the_same_text_and_random_numbers_stay_as_they_are(
    tiny_base: Path, base: BaseModel
) -> None:
    config = tiny_config(tiny_base, training={"keep_weight": 1.0, "max_steps": 16})
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = keeping_of(config, base, Launch(0, 2, 0, 2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    second = keeping_of(config, base, Launch(1, 2, 1, 2))
    assert first is not None and second is not None
    assert first.text.shape == (16 * WINDOWS_A_STEP, LENGTH)
    assert torch.equal(first.text, second.text)
    assert not torch.equal(first.text, sampled_text(base, 16 * WINDOWS_A_STEP, LENGTH, seed=1))
    assert keeping_of(tiny_config(tiny_base), base, ALONE) is None


# ------------------------------------------------------------------------------------- the loss


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_the_parts_of_all_processes_are_the_whole(
    tiny_base: Path, base: BaseModel, processes: int
) -> None:
    """Also where some have no window; and each step has its own ones."""
    text = sampled_text(base, 3 * WINDOWS_A_STEP, LENGTH, seed=0)
    model = add_adapter(base.model, tiny_config(tiny_base), add_gist_rows(base.model, 4))
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    alone = Keeping(text, base.num_text_tokens)
    wholes = [alone.loss(model, step).item() for step in range(4)]
    assert wholes[3] == wholes[0] > 0, "after the last window comes the first"
    assert len(set(wholes)) == 3
    for step, whole in enumerate(wholes):
        parts = [
            float(Keeping(text, base.num_text_tokens, Share(1, rank, processes)).loss(model, step))
            for rank in range(processes)
        ]
        assert sum(parts) == pytest.approx(whole, rel=1e-5)


def test_only_a_models_own_logits_wait_for_the_backward_pass(
    tiny_base: Path, base: BaseModel
) -> None:
    """No distribution of a row does: it is computed again, and gradients stay what they are."""
    text = sampled_text(base, WINDOWS_A_STEP, LENGTH, seed=0)
    model = add_adapter(base.model, tiny_config(tiny_base), ())
    torch.manual_seed(0)
    trained = {name: part for name, part in model.named_parameters() if part.requires_grad}
    for weight in trained.values():
        torch.nn.init.normal_(weight, std=0.1)
    waiting: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        waiting.append(tensor.untyped_storage().nbytes())  # of a view: of what it is a part of
        return tensor

    kept = Keeping(text, base.num_text_tokens)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = kept.loss(model, 0)
    row_bytes = 4 * LENGTH * base.num_text_tokens
    assert row_bytes not in waiting
    assert WINDOWS_A_STEP * row_bytes in waiting
    gradients = torch.autograd.grad(loss, list(trained.values()))
    with torch.no_grad(), base_weights(model):
        p = text_logits(model, text).log_softmax(-1)
    q = text_logits(model, text).log_softmax(-1)
    whole = (p.exp() * (p - q)).sum(-1).mean()
    for name, ours, theirs in zip(
        trained, gradients, torch.autograd.grad(whole, list(trained.values())), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6, msg=name)
        assert ours.abs().max() > 0


@pytest.mark.parametrize(
    ("changes", "adapter"),
    [
        ({}, {"modules_to_save": ["lm_head"]}),
        ({"tie_word_embeddings": True}, {}),
        ({"model_type": "gpt_neox"}, {}),
        (
            {
                "model_type": "gemma3_text",
                "head_dim": 16,
                "sliding_window": 8,
                "final_logit_softcapping": 2.0,
            },
            {},
        ),
        ({"attention_dropout": 0.5}, {}),
    ],
    ids=["head-trained", "tied", "gpt-neox", "softcap", "dropout"],
)
def test_what_is_to_be_kept_is_the_base_models_to_the_bit(
    tmp_path: Path, changes: dict[str, Any], adapter: dict[str, Any]
) -> None:
    """Whatever was trained meanwhile, and without dropout of its own."""
    folder = write_tiny_base(tmp_path / "base", **changes)
    base = load_base(find_model(str(folder)), dtype=torch.float32, device="cpu")
    text = sampled_text(base, WINDOWS_A_STEP, LENGTH, seed=0)
    config = settled(tiny_config(folder, adapter=adapter), base.reference.model_type)
    model = add_adapter(base.model, config, add_gist_rows(base.model, 4))
    base.model.eval()
    with torch.no_grad(), base_weights(model):
        expected = text_logits(model, text)
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1)
    model.train()
    kept = Keeping(text, base.num_text_tokens)
    for _ in range(2):
        found = kept._base_logits(model, text)
        assert torch.equal(
            found[..., : base.num_text_tokens], expected[..., : base.num_text_tokens]
        )
        assert kept.loss(model, 0).item() > 0
        assert all(module.training for module in base.model.modules())


def test_what_a_window_says_does_not_depend_on_its_batch(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    together = sampled_text(base, 12, LENGTH, seed=0)
    monkeypatch.setattr(keeping, "BATCH_BYTES_CPU", 1)
    apart = sampled_text(base, 12, LENGTH, seed=0, progress=lambda *now: told.append(now))
    assert torch.equal(apart, together)
    assert told == sorted(told) and len(told) == 12 * (LENGTH - 1)
    assert told[-1] == (12 * LENGTH, 12 * LENGTH)


def test_no_window_comes_twice_within_a_training_of_500_steps(
    tiny_base: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 windows, read over and over, were learned by heart."""
    monkeypatch.setattr(keeping, "WINDOW_TOKENS", 8)
    monkeypatch.setattr(keeping, "BATCH_BYTES_CPU", 2**18)
    kept = keeping_of(
        tiny_config(tiny_base, training={"keep_weight": 1.0, "max_steps": 500}), base, ALONE
    )
    assert kept is not None
    seen = [tuple(row) for step in range(500) for row in kept._windows(step).tolist()]
    assert len(seen) == 500 * WINDOWS_A_STEP
    assert len(set(seen)) == len(seen)


def test_the_base_side_is_the_base_model_and_leaves_what_is_trained_as_it_was(
    tiny_base: Path, base: BaseModel
) -> None:
    text = sampled_text(base, 2, LENGTH, seed=0)
    with torch.no_grad():
        said = text_logits(base.model, text)
    config = tiny_config(tiny_base, adapter={"modules_to_save": ["lm_head"]})
    model = add_adapter(base.model, config, ())
    torch.manual_seed(0)
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert any("lm_head" in name for name in trained) and any("lora_A" in name for name in trained)
    with torch.no_grad(), base_weights(model):
        assert torch.equal(text_logits(model, text), said)
    with torch.no_grad():
        assert not torch.allclose(text_logits(model, text), said, atol=0.1)
    assert trained == {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"gradient_accumulation_steps": 3},
        {"gradient_checkpointing": True},
        {"gradient_accumulation_steps": 2, "gradient_checkpointing": True},
    ],
)
def test_a_step_weighs_it_once_and_logs_it_by_its_definition(
    tiny_base: Path, base: BaseModel, changed: Path, tmp_path: Path, training: dict[str, Any]
) -> None:
    def first_step(weight: float) -> dict[str, Any]:
        config = tiny_config(
            tiny_base,
            adapter={"start_from": str(changed)},
            training={**training, "max_steps": 1, "keep_weight": weight},
        )
        return metrics(train(config, tmp_path / f"{weight}", device="cpu"))[0]

    without, with_it = first_step(0.0), first_step(30.0)
    text = sampled_text(base, WINDOWS_A_STEP, LENGTH, seed=0)
    assert with_it["keep_loss"] == pytest.approx(divergence(changed, text, tiny_base), rel=1e-4)
    assert with_it["keep_loss"] > 0.01
    assert "keep_loss" not in without
    added = with_it["loss"] - without["loss"]
    assert added == pytest.approx(30 * with_it["keep_loss"], rel=1e-4)
    assert with_it["grad_norm"] != pytest.approx(without["grad_norm"], rel=0.01)


# ------------------------------------------------------------------------------------- training


@pytest.mark.parametrize(
    "changes",
    [{}, {"objective": "full", "adapter": {"modules_to_save": ["lm_head"]}}],
    ids=["gist", "full"],
)
def test_it_is_nothing_at_first_and_training_with_it_changes_text_less(
    tiny_base: Path, base: BaseModel, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """In text that neither training saw; what the answers teach is still learned."""

    def trained(weight: float) -> Path:
        config = tiny_config(
            tiny_base,
            **changes,
            training={
                "max_steps": 16,
                "learning_rate": 2e-2,
                "save_steps": 16,
                "keep_weight": weight,
            },
        )
        return train(config, tmp_path / f"{weight}", device="cpu")

    text = sampled_text(base, 16, LENGTH, seed=99)
    free, kept = (divergence(trained(weight), text, tiny_base) for weight in (0.0, 10.0))
    logged = metrics(tmp_path / "10.0")
    losses = [entry["keep_loss"] for entry in logged]
    assert losses[0] == 0
    assert min(losses[1:]) > 0
    assert free > 0.2
    assert kept < free / 2
    answers = [entry["loss"] - 10 * entry["keep_loss"] for entry in logged]
    assert sum(answers[-4:]) < 0.9 * sum(answers[:4])


class Stop(TrainerCallback):
    """Ends a training as an error would, between two states."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 3:
            raise KeyboardInterrupt


def staged(base: Path, **training: Any) -> TrainConfig:
    """Stages of 3 steps at 144 tokens and 3 at 160."""
    given = {"max_steps": 6, "logging_steps": 1, "learning_rate": 1e-2, **training}
    return tiny_config(base, data={"curriculum": (144,), "max_stage_steps": 3}, training=given)


def test_it_counts_from_the_stage_that_is_named_and_changes_nothing_before(
    tiny_base: Path, tmp_path: Path
) -> None:
    late = {"keep_weight": 1.0, "keep_from_tokens": 160}
    train(staged(tiny_base, **late), tmp_path / "late", device="cpu")
    train(staged(tiny_base), tmp_path / "never", device="cpu")
    train(staged(tiny_base, **late, logging_steps=4), tmp_path / "rarely", device="cpu")
    with_it, without = metrics(tmp_path / "late"), metrics(tmp_path / "never")
    assert [row["context_tokens"] for row in with_it] == [144] * 3 + [160] * 3
    assert ["keep_loss" in row for row in with_it] == [False] * 3 + [True] * 3
    assert with_it[:3] == without[:3]
    answers = [row["loss"] - row.get("keep_loss", 0) for row in with_it]
    assert answers[3] == pytest.approx(without[3]["loss"], rel=1e-5), "one step later it moves"
    assert answers[5] != pytest.approx(without[5]["loss"], rel=1e-5)
    # Where it counts in some steps of a row, the rest of the loss is that of the answers as well.
    row = metrics(tmp_path / "rarely")[1]
    assert row["step"] == 4
    assert row["loss"] - row["keep_loss"] == pytest.approx(sum(answers[1:4]) / 3, rel=1e-4)


def test_it_never_counts_while_some_tasks_are_alone(tiny_base: Path, tmp_path: Path) -> None:
    config = tiny_config(
        tiny_base,
        data={
            "tasks": ("niah_passkey", "niah_two_questions"),
            "first_tasks": ("niah_passkey",),
            "max_stage_steps": 2,
        },
        training={"max_steps": 4, "logging_steps": 1, "keep_weight": 1.0},
    )
    train(config, tmp_path, device="cpu")
    assert ["keep_loss" in row for row in metrics(tmp_path)] == [False, False, True, True]


def test_its_weight_rises_from_the_stage_that_is_named_and_goes_on_rising_after_a_resume(
    tiny_base: Path, tmp_path: Path
) -> None:
    rising = {"keep_weight": 2.0, "keep_from_tokens": 160, "keep_rise_steps": 2, "save_steps": 4}
    train(staged(tiny_base, **rising), tmp_path / "whole", device="cpu")
    whole, without = metrics(tmp_path / "whole"), metrics(train_without(tiny_base, tmp_path))
    weights = [row["weighted_keep_loss"] / row["keep_loss"] for row in whole[3:]]
    assert weights == pytest.approx([1.0, 2.0, 2.0])
    assert all("weighted_keep_loss" not in row for row in whole[:3])
    added = whole[3]["loss"] - without[3]["loss"]
    assert added == pytest.approx(whole[3]["weighted_keep_loss"], rel=1e-4)
    train(staged(tiny_base, **rising, logging_steps=3), tmp_path / "rarely", device="cpu")
    row = metrics(tmp_path / "rarely")[-1]  # steps 4 to 6
    mean = sum(row["weighted_keep_loss"] for row in whole[3:]) / 3
    assert row["weighted_keep_loss"] == pytest.approx(mean)
    assert row["loss"] - mean == pytest.approx(
        sum(row["loss"] - row["weighted_keep_loss"] for row in whole[3:]) / 3, rel=1e-4
    )
    shutil.copytree(tmp_path / "whole" / "checkpoint-4", tmp_path / "cut" / "checkpoint-4")
    train(staged(tiny_base, **rising), tmp_path / "cut", device="cpu")
    cut = metrics(tmp_path / "cut")
    assert [row["step"] for row in cut] == [5, 6]
    assert [row["weighted_keep_loss"] / row["keep_loss"] for row in cut] == pytest.approx([2, 2])
    assert [row["loss"] for row in cut] == [row["loss"] for row in whole[4:]]


def train_without(base: Path, folder: Path) -> Path:
    return train(staged(base), folder / "without", device="cpu")


@pytest.mark.parametrize("field", ["keep_from_tokens", "keep_rise_steps"])
def test_from_when_nothing_counts_is_refused(field: str) -> None:
    config = TrainConfig.model_validate({"training": {field: 64}})
    with pytest.raises(UsageError, match=r"has no weight; pass --training.keep-weight 10"):
        require_keepable(config)


def test_a_training_that_was_cut_off_goes_on_as_if_it_had_not_been(
    tiny_base: Path, tmp_path: Path
) -> None:
    config = tiny_config(
        tiny_base,
        adapter={"lora_dropout": 0.2},
        training={"max_steps": 5, "learning_rate": 1e-2, "keep_weight": 2.0},
    )
    cut, whole = tmp_path / "cut", train(config, tmp_path / "whole", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(config, cut, device="cpu", callbacks=[Stop()])
    assert (cut / "checkpoint-2").is_dir() and not (cut / MANIFEST_FILE).exists()
    train(config, cut, device="cpu")
    assert "Resumed at step 2." in (cut / "training.md").read_text(encoding="utf-8")
    assert metrics(cut) == metrics(whole)
    ours, theirs = (load_file(folder / "adapter_model.safetensors") for folder in (cut, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_random_weights_read_random_text_and_say_nothing_of_it(
    tiny_base: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_base, weights="random", training={"max_steps": 1, "keep_weight": 1.0})
    (entry,) = metrics(train(config, tmp_path, device="cpu"))
    assert "not_measured" in entry["keep_loss"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"adapter": {"answer_with": "base"}}, "which forgets nothing; leave it out"),
        ({"training": {"shard_base": True}}, "training.shard_base does not allow; leave one"),
        ({"training": {"keep_from_tokens": 9999}}, "would never count: .* 9999 is longer"),
        ({"training": {"keep_rise_steps": 9999}}, "would never be reached: .* 9999, and there are"),
    ],
)
def test_what_forgets_nothing_or_cannot_be_read_is_refused(
    changes: dict[str, Any], sentence: str
) -> None:
    unweighted = {name: value for name, value in changes.items() if "keep_" not in str(value)}
    require_keepable(TrainConfig.model_validate(unweighted))
    weighted = {**changes, "training": {**changes.get("training", {}), "keep_weight": 0.5}}
    with pytest.raises(UsageError, match=rf"training.keep_weight 0.5 .*{sentence}"):
        require_keepable(TrainConfig.model_validate(weighted))


def test_a_refused_training_writes_nothing(tiny_base: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_base, adapter={"answer_with": "base"}, training={"keep_weight": 1.0})
    with pytest.raises(UsageError, match=r"training.keep_weight 1 does not go with"):
        train(config, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
