"""Claims about what is learned from: one reading for several questions is as good as one each."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from gistbench.config import TrainConfig
from gistbench.core.layout import GistLayout
from gistbench.models.adapter import add_adapter, add_gist_rows
from gistbench.models.catalog import find_model
from gistbench.models.checkpoint import load_checkpoint
from gistbench.models.loading import load_base
from gistbench.training.examples import IGNORED, Example, build_example, collate, holding
from gistbench.training.forgetting import forgetting
from gistbench.training.objective import Pointing, answer_logits, layout_of
from gistbench.training.run import train
from gistbench.training.trainer import GistTrainer
from tests.fixtures.tiny_base import NUM_GISTS, tiny_config


def test_the_gists_that_hold_a_needle_are_those_whose_part_it_lies_in() -> None:
    layout = GistLayout(103 + 4, 4, (0,), (0,), stage="joint", segmented=True)
    assert layout.segment_bounds()[0].tolist() == [0, 25, 51, 77, 103]
    assert holding(103, 4, (0, 25)) == [True, False, False, False]
    assert holding(103, 4, (24, 26)) == [True, True, False, False]
    assert holding(103, 4, (77, 103)) == [False, False, False, True]
    assert holding(103, 4, None) == [False] * 4


def test_a_turn_knows_the_tokens_that_state_its_answer(tiny_base: Path) -> None:
    tokenizer = load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu").tokenizer
    example = build_example(
        tokenizer,
        task="niah_labelled_4",
        context_tokens=220,
        index=2,
        seed=0,
        num_questions=5,
        locate=True,
    )
    found = [turn for turn in example.turns if turn.needle is not None]
    assert len(found) == 4, "the listing is in no one place"
    answers = [tokenizer.decode(turn.answer).strip() for turn in found]
    for turn in found:
        assert turn.needle is not None
        first, end = turn.needle
        stated = tokenizer.decode(example.context[first:end])
        own = tokenizer.decode(turn.answer).strip()
        assert [answer for answer in answers if answer in stated] == [own]


def test_the_pointer_is_the_share_of_attention_that_falls_on_the_right_gist() -> None:
    batch = {
        "labels": torch.tensor([[IGNORED, 7, 8], [5, 6, 7], [1, 2, 3]]),
        "holders": torch.tensor([[False, True], [True, False], [False, False]]),
    }
    pointing = Pointing(batch)
    shares = torch.zeros(3, 1, 5, 2)
    shares[:, :, :, 0] = 0.9  # where nothing is predicted, and of turns whose gist is unknown
    shares[0, :, 2:4] = torch.tensor([0.1, 0.3])
    shares[1, :, 1:3] = torch.tensor([0.2, 0.2])  # by the third token its own digits decide
    pointing(shares)
    torch.testing.assert_close(pointing.by_layer[0, :2], torch.tensor([0.75, 0.5]))
    assert pointing.by_layer[0, 2].isnan()
    expected = -(torch.tensor([0.75, 0.5]).log().sum())
    torch.testing.assert_close(pointing.loss(), expected)
    upper = Pointing(batch, layers=(1,))
    upper(torch.ones_like(shares))  # a layer that tells nothing
    upper(shares)
    torch.testing.assert_close(upper.loss(), expected)
    both = Pointing(batch)
    both(shares.flip(-1))
    both(shares)
    blind = -(torch.tensor([0.25, 0.5]).log().sum())
    torch.testing.assert_close(both.loss(), (expected + blind) / 2)


def test_training_by_the_pointer_turns_questions_to_the_right_gist(
    tiny_base: Path, tmp_path: Path
) -> None:
    config = tiny_config(
        tiny_base,
        adapter={"gist_view": "segments"},
        data={"tasks": ("niah_labelled_2",), "num_samples": 2, "questions_per_context": 3},
        training={"pointer_weight": 5.0, "max_steps": 40, "learning_rate": 2e-2},
    )
    train(config, tmp_path, device="cpu")
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert log[-1]["pointer_loss"] < 0.5 * log[0]["pointer_loss"]


def learned(
    folder: Path, config: TrainConfig, batch: list[Example], *, segmented: bool
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of a batch, LoRA begun at random so that every matrix has one."""
    base = load_base(find_model(str(folder)), dtype=torch.float32, device="cpu")
    gist_ids = add_gist_rows(base.model, NUM_GISTS)
    torch.manual_seed(3)
    model: Any = add_adapter(base.model, config, gist_ids)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    rows = collate(batch, gist_ids)
    layout = layout_of(rows, NUM_GISTS, segmented=segmented)
    logits = answer_logits(model, rows, layout, answers_only=True)
    loss = F.cross_entropy(
        logits.flatten(0, 1), rows["labels"].flatten(), ignore_index=IGNORED, reduction="sum"
    )
    loss.backward()
    grads = {n: w.grad for n, w in model.named_parameters() if w.grad is not None}
    return loss.detach(), grads


@pytest.mark.parametrize("segmented", [False, True])
def test_several_questions_to_one_reading_teach_what_one_reading_each_does(
    tiny_base: Path, segmented: bool
) -> None:
    config = tiny_config(tiny_base)
    tokenizer = load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu").tokenizer
    several = [
        build_example(tokenizer, task=task, context_tokens=length, index=1, seed=0, num_questions=4)
        for task, length in (("niah_labelled_4", 210), ("niah_passkey", 190))
    ]
    assert [len(example.turns) for example in several] == [4, 1]
    single = [Example(example.context, (turn,)) for example in several for turn in example.turns]
    together, theirs = learned(tiny_base, config, several, segmented=segmented)
    apart, ours = learned(tiny_base, config, single, segmented=segmented)
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-4)
    assert theirs.keys() == ours.keys()
    assert any("lora_A" in name for name in ours) and any("token" in name for name in ours)
    for name, grad in ours.items():
        assert grad.norm() > 0, name
        assert (theirs[name] - grad).norm() < 1e-3 * grad.norm(), name


@pytest.mark.parametrize("answer_with", ["base", "own"])
def test_other_weights_may_answer_than_read(
    tiny_base: Path, tmp_path: Path, answer_with: str
) -> None:
    config = tiny_config(
        tiny_base,
        adapter={"answer_with": answer_with},
        data={"num_samples": 2},
        training={"max_steps": 30, "learning_rate": 2e-2},
    )
    train(config, tmp_path, device="cpu")
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    # What is trained is what is evaluated: the loaded checkpoint gives the loss that was logged.
    base = load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu")
    loaded = load_checkpoint(base, tmp_path)
    batch = [
        build_example(base.tokenizer, task="niah_passkey", context_tokens=160, index=index, seed=0)
        for index in range(2)
    ]
    rows = collate(batch, loaded.gist_ids)
    with torch.inference_mode():
        logits = answer_logits(
            loaded.model, rows, layout_of(rows, NUM_GISTS), answers_only=True, apart=True
        )
    loss = F.cross_entropy(
        logits.flatten(0, 1), rows["labels"].flatten(), ignore_index=IGNORED
    ).item()
    assert loss == pytest.approx(log[-1]["loss"], rel=0.25)
    ratio = forgetting(tmp_path, device="cpu", windows=3, window_tokens=30).ratio
    assert (ratio == 1) == (answer_with == "base")


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_is_trained_is_cast_once_a_step_however_many_passes_there_are(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpointing: bool
) -> None:
    casts: Counter[int] = Counter()
    trained: dict[int, str] = {}

    class Casts(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is torch.ops.aten._to_copy.default and args[0].data_ptr() in trained:
                casts[args[0].data_ptr()] += 1
            return func(*args, **(kwargs or {}))

    sound = GistTrainer.compute_loss

    def watched(self: GistTrainer, model: Any, *args: Any, **named: Any) -> Any:
        trained.update(
            {part.data_ptr(): name for name, part in model.named_parameters() if "lora_" in name}
        )
        with Casts():
            return sound(self, model, *args, **named)

    monkeypatch.setattr(GistTrainer, "compute_loss", watched)
    config = tiny_config(
        tiny_base,
        data={"tasks": ["niah_labelled_2"], "questions_per_context": 1 if checkpointing else 2},
        training={"max_steps": 1, "keep_weight": 1.0, "gradient_checkpointing": checkpointing},
    )
    half = config.base.model_copy(update={"dtype": "bfloat16"})
    train(config.model_copy(update={"base": half}), tmp_path / "run", device="cpu")
    assert trained
    assert casts == dict.fromkeys(trained, 1)
