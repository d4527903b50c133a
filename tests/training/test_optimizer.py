"""Claims about Muon beside another optimiser."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.optim import AdamW, Muon
from torch.optim.lr_scheduler import LambdaLR

from gistbench.config import TrainConfig
from gistbench.errors import UsageError
from gistbench.training.optimizer import MuonBeside, require_muon, with_muon
from gistbench.training.run import train
from tests.fixtures.tiny_base import tiny_config

STEPS = 4


class Two(torch.nn.Module):
    """A LoRA matrix and rows that are none, as PEFT names them."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.q_proj = torch.nn.Module()
        self.q_proj.lora_A = torch.nn.ParameterDict(
            {"default": torch.nn.Parameter(torch.randn(4, 12, generator=generator))}
        )
        self.rows = torch.nn.Parameter(torch.randn(3, 12, generator=generator))
        self.frozen = torch.nn.Parameter(torch.ones(2, 2), requires_grad=False)

    @property
    def matrix(self) -> torch.nn.Parameter:
        return self.q_proj.lora_A["default"]

    def loss(self, step: int) -> torch.Tensor:
        target = torch.randn(12, generator=torch.Generator().manual_seed(step))
        return ((self.matrix - target) ** 2).sum() + ((self.rows - 2 * target) ** 4).mean()


def steps(model: Two, optimizers: list[torch.optim.Optimizer], numbers: range) -> None:
    for step in numbers:
        model.loss(step).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def beside(model: Two) -> MuonBeside:
    return with_muon(model, AdamW, {"lr": 0.01}, learning_rate=0.02, weight_decay=0.1)


def test_each_moves_its_own_parameters_as_it_would_alone() -> None:
    joined, apart = Two(), Two()
    steps(joined, [beside(joined)], range(STEPS))
    alone: list[torch.optim.Optimizer] = [
        Muon([apart.matrix], lr=0.02, weight_decay=0.1),
        AdamW([apart.rows], lr=0.01, weight_decay=0.1),
    ]
    steps(apart, alone, range(STEPS))
    assert torch.equal(joined.matrix, apart.matrix)
    assert torch.equal(joined.rows, apart.rows)
    assert not torch.equal(joined.matrix, Two().matrix)
    assert torch.equal(joined.frozen, Two().frozen)


def test_a_state_that_was_saved_and_loaded_goes_on_bit_equal() -> None:
    through, first = Two(), Two()
    steps(through, [beside(through)], range(2 * STEPS))
    before = beside(first)
    steps(first, [before], range(STEPS))
    second = copy.deepcopy(first)
    after = beside(second)
    after.load_state_dict(before.state_dict())
    steps(second, [after], range(STEPS, 2 * STEPS))
    assert torch.equal(second.matrix, through.matrix)
    assert torch.equal(second.rows, through.rows)


def test_a_schedule_scales_both_rates() -> None:
    model = Two()
    optimizer = beside(model)
    LambdaLR(optimizer, lambda _: 0.0)
    steps(model, [optimizer], range(1))
    assert torch.equal(model.matrix, Two().matrix)
    assert torch.equal(model.rows, Two().rows)


def test_muon_trains_alone_where_nothing_but_matrices_is_trained() -> None:
    model = Two()
    model.rows.requires_grad_(False)
    steps(model, [beside(model)], range(1))
    assert not torch.equal(model.matrix, Two().matrix)


def with_rate(base: Path, **training: Any) -> TrainConfig:
    return tiny_config(base, training={"max_steps": 2, "muon_learning_rate": 0.02, **training})


def test_a_training_with_a_rate_for_muon_trains_matrices_otherwise(
    tiny_base: Path, tmp_path: Path
) -> None:
    train(with_rate(tiny_base), tmp_path / "muon", device="cpu")
    plain = tiny_config(tiny_base, training={"max_steps": 2})
    train(plain, tmp_path / "plain", device="cpu")
    by_muon, without = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("muon", "plain")
    )
    matrices = [name for name in without if "lora_" in name]
    assert matrices and not any(torch.equal(without[name], by_muon[name]) for name in matrices)


def test_an_optimizer_that_cannot_train_the_rest_is_refused(tiny_base: Path) -> None:
    with pytest.raises(UsageError, match=r"optim paged_adamw_8bit .* --training.optim adamw_torch"):
        require_muon(with_rate(tiny_base, optim="paged_adamw_8bit"))
