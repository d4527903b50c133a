"""What the steps of a training are computed with: fused kernels, and no casts without a use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch

from gistbench.config import TrainConfig
from gistbench.errors import PrerequisiteError


def uses_liger_kernel(config: TrainConfig, device: str) -> bool:
    """Whether liger-kernel's fused kernels take part.

    Raises:
        PrerequisiteError: They are asked for and cannot.
    """
    asked, installed = config.training.use_liger_kernel, find_spec("liger_kernel") is not None
    if asked is None:
        return installed and device == "cuda"
    if asked and not installed:
        raise PrerequisiteError(
            "training.use_liger_kernel needs liger-kernel, which is not installed; run "
            "`pip install liger-kernel` or leave it out"
        )
    if asked and device != "cuda":
        raise PrerequisiteError(
            "training.use_liger_kernel needs an NVIDIA GPU; leave it out to train on a CPU"
        )
    return asked


@contextmanager
def without_casts(model: torch.nn.Module, config: TrainConfig) -> Iterator[None]:
    """Leave the inputs of LoRA matrices in bf16 for as long as the block lasts.

    Autocast rounds them to bf16 in any case; PEFT would widen them to the matrices' own float32
    before, which changes nothing and moves every activation of an adapted layer twice.
    """
    # PEFT's own `disable_input_dtype_casting` does not know layers of trainable tokens.
    casting: list[Any] = [
        module for module in model.modules() if getattr(module, "cast_input_dtype_enabled", False)
    ]
    if config.base.dtype != "bfloat16":
        casting = []
    for module in casting:
        module.cast_input_dtype_enabled = False
    try:
        yield
    finally:
        for module in casting:
            module.cast_input_dtype_enabled = True
