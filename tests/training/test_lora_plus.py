"""Claims about the rates of LoRA's matrices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from gistbench.training.rates import raise_rate_of_b
from gistbench.training.run import train
from tests.fixtures.tiny_base import tiny_config


class Rates(TrainerCallback):
    """The peak rate of every trained parameter, by name."""

    trainer: Any

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        names = {id(part): name for name, part in self.trainer.model.named_parameters()}
        self.of = {
            names[id(part)]: group["initial_lr"]
            for group in self.trainer.optimizer.param_groups
            for part in group["params"]
        }


@pytest.mark.parametrize("modules", [(), ("lm_head", "embed_tokens")])
@pytest.mark.parametrize("ratio", [1.0, 8.0])
def test_b_matrices_alone_have_the_higher_rate(
    tiny_base: Path, tmp_path: Path, ratio: float, modules: tuple[str, ...]
) -> None:
    """Also where matrices are trained whole."""
    rates = Rates()
    training = {"max_steps": 1, "learning_rate": 1e-3, "lora_plus_ratio": ratio}
    adapter = {"modules_to_save": modules}
    config = tiny_config(tiny_base, adapter=adapter, training=training)
    train(config, tmp_path, device="cpu", callbacks=[rates])
    trained = {n for n, part in rates.trainer.model.named_parameters() if part.requires_grad}
    assert rates.of.keys() == trained
    for name, found in rates.of.items():
        assert found == pytest.approx(1e-3 * (ratio if ".lora_B." in name else 1)), name
    num_a, num_b = (sum(part in name for name in trained) for part in (".lora_A.", ".lora_B."))
    assert num_a == num_b > 0


def test_a_higher_rate_moves_b_further_and_a_as_far(tiny_base: Path, tmp_path: Path) -> None:
    """One step of AdamW moves each number by the rate: B starts at zero, A at the same numbers."""
    for name, ratio in (("alike", 1.0), ("plus", 4.0)):
        training = {"max_steps": 1, "learning_rate": 1e-3, "warmup_steps": 0}
        config = tiny_config(tiny_base, training={**training, "lora_plus_ratio": ratio})
        train(config, tmp_path / name, device="cpu")
    alike, plus = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("alike", "plus")
    )
    for name, weights in alike.items():
        by = 4 if "lora_B" in name else 1
        assert (plus[name].float() - by * weights.float()).abs().max() < 1e-4, name
        assert weights.float().abs().max() > 5e-4, name


def test_a_group_that_is_parted_keeps_its_other_settings() -> None:
    layer = torch.nn.Module()
    layer.lora_B = torch.nn.ParameterDict({"default": torch.nn.Parameter(torch.ones(4, 2))})
    layer.rows = torch.nn.Parameter(torch.ones(3, 2))
    groups = [
        {"params": [*layer.lora_B.values(), layer.rows], "weight_decay": 0.1, "lr": 0.01},
        {"params": [], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.02, eps=1e-4)
    raise_rate_of_b(optimizer, torch.nn.ModuleDict({"q_proj": layer}), 4.0)
    shapes = [[tuple(part.shape) for part in group["params"]] for group in optimizer.param_groups]
    assert shapes == [[(3, 2)], [], [(4, 2)]]
    first, _, last = optimizer.param_groups
    assert (first["lr"], last["lr"]) == (0.01, 0.04)
    assert (last["weight_decay"], last["eps"]) == (0.1, 1e-4)
