"""What the steps of a training are computed with: fused kernels, and no casts without a use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from packaging.version import Version
from peft import PeftModel

from gistbench.config import TrainConfig
from gistbench.errors import PrerequisiteError

PACKAGE, OLDEST = "liger-kernel", "0.8"


@dataclass(frozen=True, slots=True)
class _Known:
    """How liger-kernel serves an architecture.

    Attributes:
        apply: Name of the function that does.
        modeling: The module that it changes.
        activation: Field of the configuration, and the one activation that is fused. Another one
            would be replaced by it without a word.
        gated: What the function calls the layers with that activation.
    """

    apply: str
    modeling: str
    activation: tuple[str, str] = ("hidden_act", "silu")
    gated: str = "swiglu"


KNOWN = {
    "gemma3_text": _Known(
        "apply_liger_kernel_to_gemma3_text",
        "transformers.models.gemma3.modeling_gemma3",
        ("hidden_activation", "gelu_pytorch_tanh"),
        "geglu",
    ),
    **{
        name: _Known(f"apply_liger_kernel_to_{name}", f"transformers.models.{name}.modeling_{name}")
        for name in ("llama", "mistral", "qwen2", "qwen3")
    },
}
"""By model type. GPT-NeoX is not among them."""


def with_kernels(config: TrainConfig, model_config: Any, device: str) -> TrainConfig:
    """The configuration with `training.use_liger_kernel` decided.

    Raises:
        PrerequisiteError: The kernels are asked for and cannot take part.
    """
    asked = config.training.use_liger_kernel
    if asked is False:
        return config
    reason = _why_not(model_config, device)
    if asked and reason is not None:
        raise PrerequisiteError(f"training.use_liger_kernel {reason}, or leave it out")
    training = config.training.model_copy(update={"use_liger_kernel": reason is None})
    return config.model_copy(update={"training": training})


def _why_not(model_config: Any, device: str) -> str | None:
    """Why fused kernels cannot take part, and what to do; None where they can."""
    known = KNOWN.get(model_config.model_type)
    if device != "cuda":
        return "needs a GPU; train on one"
    if known is None:
        return f"knows no {model_config.model_type} models; take {', '.join(KNOWN)}"
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:
        return f"needs {PACKAGE}, which is not installed; run `pip install {PACKAGE}`"
    if Version(found) < Version(OLDEST):
        return f"needs {PACKAGE} {OLDEST}, and {found} is installed; run `pip install -U {PACKAGE}`"
    try:
        import_module("liger_kernel.transformers")
    except ImportError as error:
        return f"finds {PACKAGE} broken ({error}); run `pip install --force-reinstall {PACKAGE}`"
    return None


@contextmanager
def fused_kernels(model: PeftModel, config: TrainConfig) -> Iterator[None]:
    """Take liger-kernel's kernels for as long as the block lasts, where the configuration says so.

    Hsu et al., 2024 (arXiv 2410.10989): norms, rotary phases and gated activations in one kernel
    each. The loss stays with the objective. liger-kernel also changes the module that the model's
    classes come from, for every later model of the process; that is taken back. The model itself
    keeps its fused norms and activations.
    """
    if not config.training.use_liger_kernel:
        yield
        return
    base: Any = model.get_base_model()
    known = KNOWN[base.config.model_type]
    field, activation = known.activation
    modeling = import_module(known.modeling)  # also where sharding gave the model another class
    before = dict(vars(modeling))
    apply = getattr(import_module("liger_kernel.transformers"), known.apply)
    apply(
        model=base,
        cross_entropy=False,
        fused_linear_cross_entropy=False,
        **{known.gated: getattr(base.config, field) == activation},
    )
    try:
        yield
    finally:
        for name, value in before.items():
            if getattr(modeling, name, None) is not value:
                setattr(modeling, name, value)


@contextmanager
def without_casts(model: torch.nn.Module, config: TrainConfig) -> Iterator[None]:
    """Leave the inputs of LoRA matrices in bf16 for as long as the block lasts.

    Autocast rounds them to bf16 in any case; PEFT would widen them to the matrices' own float32
    before, which changes nothing (but where LoRA's dropout falls) and moves every activation of an
    adapted layer twice.
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
