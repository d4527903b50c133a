"""Fused kernels take part where they can, and what is not computed changes nothing."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from gistbench.config import TrainConfig, merge, validate
from gistbench.errors import PrerequisiteError
from gistbench.training import kernels, run
from gistbench.training.checks import training_arguments
from gistbench.training.kernels import uses_liger_kernel
from gistbench.training.run import train
from gistbench.training.share import Share
from tests.fixtures.tiny_base import tiny_config, write_tiny_base


def asked(value: bool | None) -> TrainConfig:
    return validate(TrainConfig, {"training": {"use_liger_kernel": value}}, "test")


@pytest.mark.parametrize(
    ("value", "installed", "device", "taken"),
    [
        (None, True, "cuda", True),
        (None, True, "cpu", False),
        (None, False, "cuda", False),
        (True, True, "cuda", True),
        (False, True, "cuda", False),
        (False, False, "cpu", False),
    ],
)
def test_fused_kernels_are_taken_where_they_are_installed_and_can_run(
    value: bool | None,
    installed: bool,
    device: str,
    taken: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda _: object() if installed else None)
    assert uses_liger_kernel(asked(value), device) is taken


@pytest.mark.parametrize(
    ("installed", "step"), [(False, "pip install liger-kernel"), (True, "leave it out")]
)
def test_fused_kernels_that_cannot_run_are_refused_if_asked_for(
    installed: bool, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda _: object() if installed else None)
    with pytest.raises(PrerequisiteError, match=step):
        uses_liger_kernel(asked(True), "cpu")


def test_fused_kernels_leave_the_loss_to_the_objective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fused with the output matrix, it would know nothing of answers."""
    arguments = training_arguments(asked(None), tmp_path, "cpu", Share(1))
    assert not any((arguments.liger_kernel_config or {"": True}).values())


def test_inputs_left_in_bf16_train_to_the_bit_as_widened_ones(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = merge(
        tiny_config(tiny_base).model_dump(),
        {"base": {"dtype": "bfloat16"}, "training": {"max_steps": 3}},
    )
    config = validate(TrainConfig, fields, "test")
    inputs: set[torch.dtype] = set()
    sound = torch.nn.functional.linear

    def watched(hidden: torch.Tensor, weight: torch.Tensor, bias: Any = None) -> torch.Tensor:
        if weight.dtype == torch.float32 and torch.is_grad_enabled():
            inputs.add(hidden.dtype)
        return sound(hidden, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    losses, seen = [], []
    for name in ("plain", "widened"):
        if name == "widened":
            monkeypatch.setattr(run, "without_casts", lambda *_: nullcontext())
        folder = train(config, tmp_path / name, device="cpu")
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line).get("loss") for line in lines])
        seen.append(set(inputs))
        inputs.clear()
    assert losses[0] == losses[1]
    assert seen == [{torch.bfloat16}, {torch.bfloat16, torch.float32}]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        ("gemma3_text", {"head_dim": 16, "sliding_window": 32, "sliding_window_pattern": 2}),
        ("gpt_neox", {"num_key_value_heads": None}),
        ("llama", {}),
        ("mistral", {}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 16}),
    ],
)
def test_fused_kernels_train_alike(
    model_type: str, fields: dict[str, Any], dtype: str, tmp_path: Path
) -> None:
    pytest.importorskip("liger_kernel")
    base = write_tiny_base(tmp_path / "base", model_type=model_type, **fields)
    losses = {}
    for fused in (False, True):
        changes = {
            "base": {"dtype": dtype},
            "training": {"use_liger_kernel": fused, "max_steps": 4},
        }
        config = validate(TrainConfig, merge(tiny_config(base).model_dump(), changes), "test")
        folder = train(config, tmp_path / str(fused), device="cuda")
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        losses[fused] = [json.loads(line).get("loss") for line in lines]
    assert losses[True] == pytest.approx(losses[False], rel=1e-4 if dtype == "float32" else 2e-2)
    assert len(set(losses[True])) > 1
