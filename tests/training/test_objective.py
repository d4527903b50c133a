"""Claims about what is learned from: one reading for several questions is as good as one each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gistbench.config import TrainConfig
from gistbench.models.catalog import find_model
from gistbench.models.checkpoint import add_adapter, add_gist_rows
from gistbench.models.loading import load_base
from gistbench.training.data import IGNORED, Example, build_example, collate
from gistbench.training.objective import answer_logits, layout_of
from tests.fixtures.tiny_base import NUM_GISTS, tiny_config


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
