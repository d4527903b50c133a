"""Fused kernels take part where they can, and what is not computed changes nothing."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from gistbench.config import TrainConfig
from gistbench.config_files import merge, validate
from gistbench.errors import PrerequisiteError
from gistbench.models.manifest import read_manifest
from gistbench.training import kernels, run
from gistbench.training.checks import is_finished
from gistbench.training.kernels import KNOWN, fused_kernels, with_kernels
from gistbench.training.run import train
from tests.fixtures.tiny_base import tiny_config, write_tiny_base

LLAMA = SimpleNamespace(model_type="llama", hidden_act="silu")


def asked(value: bool | None) -> TrainConfig:
    return validate(TrainConfig, {"training": {"use_liger_kernel": value}}, "test")


class FakeLiger(ModuleType):
    """Changes models and modules as liger-kernel does, with nothing fused."""

    def __init__(self) -> None:
        super().__init__("liger_kernel.transformers")
        self.given: list[dict[str, Any]] = []
        for known in KNOWN.values():
            setattr(self, known.apply, self.apply)

    def apply(self, model: Any, **options: Any) -> None:
        self.given.append(options)
        modeling: Any = sys.modules[type(model).__module__]
        sound = modeling.apply_rotary_pos_emb
        modeling.apply_rotary_pos_emb = lambda *args, **named: sound(*args, **named)
        modeling.LlamaRMSNorm = type("FusedRMSNorm", (modeling.LlamaRMSNorm,), {})


@pytest.fixture
def liger(monkeypatch: pytest.MonkeyPatch) -> FakeLiger:
    """liger-kernel, installed."""
    fake = FakeLiger()
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", fake)
    monkeypatch.setattr(kernels, "version", lambda _: "0.8.5")
    return fake


def test_fused_kernels_are_taken_on_a_gpu_where_they_are_installed(liger: FakeLiger) -> None:
    def taken(value: bool | None, model: Any, device: str) -> bool | None:
        return with_kernels(asked(value), model, device).training.use_liger_kernel

    neox = SimpleNamespace(model_type="gpt_neox")
    assert taken(None, LLAMA, "cuda") is taken(True, LLAMA, "cuda") is True
    assert taken(False, LLAMA, "cuda") is False
    assert taken(None, LLAMA, "cpu") is False
    assert taken(None, neox, "cuda") is False


def test_fused_kernels_that_cannot_take_part_are_left_out_or_refused_with_the_next_step(
    liger: FakeLiger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(words: str, model: Any = LLAMA, device: str = "cuda") -> None:
        assert with_kernels(asked(None), model, device).training.use_liger_kernel is False
        with pytest.raises(PrerequisiteError, match=words):
            with_kernels(asked(True), model, device)

    refused("needs a GPU", device="cpu")
    refused("knows no gpt_neox models; take gemma3_text", SimpleNamespace(model_type="gpt_neox"))
    monkeypatch.setattr(kernels, "version", lambda _: "0.7.9")
    refused(r"needs liger-kernel 0.8, and 0.7.9 is installed; run `pip install -U liger-kernel`")
    monkeypatch.setattr(kernels, "version", lambda _: "0.10.0")
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", None)
    refused("finds liger-kernel broken")
    monkeypatch.undo()
    if not torch.cuda.is_available():
        refused("which is not installed; run `pip install liger-kernel`")


@pytest.mark.parametrize(("activation", "fused"), [("silu", True), ("gelu", False)])
def test_only_the_activation_that_the_kernels_know_is_fused_and_never_the_loss(
    liger: FakeLiger, tmp_path: Path, activation: str, fused: bool
) -> None:
    """Another activation would be replaced without a word."""
    model = _model(tmp_path, hidden_act=activation)
    with fused_kernels(model, asked(True)):
        pass
    assert liger.given == [
        {"cross_entropy": False, "fused_linear_cross_entropy": False, "swiglu": fused}
    ]


def test_a_process_gets_its_modules_back(liger: FakeLiger, tmp_path: Path) -> None:
    from transformers.models.llama import modeling_llama

    names = ("apply_rotary_pos_emb", "LlamaRMSNorm")
    before = [getattr(modeling_llama, name) for name in names]
    with pytest.raises(RuntimeError, match="stopped"), fused_kernels(_model(tmp_path), asked(True)):
        inside = [getattr(modeling_llama, name) for name in names]
        raise RuntimeError("stopped")
    assert all(one is not other for one, other in zip(before, inside, strict=True))
    assert [getattr(modeling_llama, name) for name in names] == before


def _model(folder: Path, **fields: Any) -> Any:
    """A tiny llama as PEFT wraps one."""
    from gistbench.models.catalog import find_model
    from gistbench.models.loading import load_base

    base = write_tiny_base(folder / "base", **fields)
    model = load_base(find_model(str(base)), dtype=torch.float32, device="cpu").model
    return SimpleNamespace(get_base_model=lambda: model)


def test_a_checkpoint_says_whether_kernels_were_fused_and_any_machine_finds_it_finished(
    tiny_base: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_base, training={"max_steps": 1})
    assert config.training.use_liger_kernel is None
    folder = train(config, tmp_path / "run", device="cpu")
    assert read_manifest(folder).training_config["training"]["use_liger_kernel"] is False
    assert is_finished(config, folder)


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
        losses.append(_losses(train(config, tmp_path / name, device="cpu")))
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
        ("llama", {}),
        ("llama", {"hidden_act": "gelu"}),
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
        losses[fused] = _losses(train(config, tmp_path / str(fused), device="cuda"))
    assert losses[True] == pytest.approx(losses[False], rel=1e-4 if dtype == "float32" else 2e-2)
    assert losses[True] != losses[False], "nothing was fused"


def _losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry["loss"] for line in lines if "loss" in (entry := json.loads(line))]
