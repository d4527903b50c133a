"""The architectures that gist attention supports: what differs between them, and what is refused.

Imports no torch. Everything else that a model needs is in its own transformers configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gistbench.config import TrainConfig
from gistbench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, slots=True)
class SupportedArchitecture:
    """What gistbench must know of an architecture.

    Attributes:
        attention_projections: Linear layers of its attention, which the recommended recipe gives
            a LoRA.
        identity_fields: Configuration fields beyond those all architectures share that change
            what the same weights compute.
        refused: Configuration fields that must be false or absent -> why.
    """

    attention_projections: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    identity_fields: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


SUPPORTED_ARCHITECTURES: Mapping[str, SupportedArchitecture] = {
    "gemma3_text": SupportedArchitecture(
        identity_fields=(
            "layer_types",
            "query_pre_attn_scalar",
            "final_logit_softcapping",
            "hidden_activation",
        ),
        refused={
            "attn_logit_softcapping": (
                "it bends attention scores inside the softmax, where neither the fused kernels of "
                "gist attention nor transformers' own Gemma 3 apply it"
            ),
            "use_bidirectional_attention": (
                "contexts would see the gists behind them, and gist attention is causal"
            ),
        },
    ),
    "gpt_neox": SupportedArchitecture(
        attention_projections=("query_key_value", "dense"),
        identity_fields=("use_parallel_residual", "hidden_act", "layer_norm_eps"),
    ),
    "llama": SupportedArchitecture(),
    "mistral": SupportedArchitecture(),
    "qwen2": SupportedArchitecture(),
    "qwen3": SupportedArchitecture(),
}
"""Model types for which the tests prove that one pass equals two."""

LENGTH_DEPENDENT_ROPE_TYPES = ("dynamic", "longrope")
"""Rotary embeddings whose frequencies change with the longest position of a pass, or of passes
before it."""


def require_supported(config: PreTrainedConfig) -> None:
    """Refuse an architecture whose attention has not been proved exact.

    Raises:
        UsageError: Names the architecture and those that are supported, or the setting of a
            supported one that gist attention cannot compute exactly.
    """
    architecture = SUPPORTED_ARCHITECTURES.get(config.model_type)
    if architecture is None:
        raise UsageError(
            f"architecture {config.model_type!r} is not supported by gist attention, "
            f"{did_you_mean(config.model_type, SUPPORTED_ARCHITECTURES)}; "
            "choose a base model of one of these with --base"
        )
    for name, reason in architecture.refused.items():
        value = getattr(config, name, None)
        if value:
            raise UsageError(
                f"{name} {value} of this {config.model_type} model is not supported by gist "
                f"attention: {reason}; choose a base model without it with --base"
            )
    for rope_type in _rope_types(config):
        if rope_type in LENGTH_DEPENDENT_ROPE_TYPES:
            raise UsageError(
                f"rope_type {rope_type!r} of this {config.model_type} model is not supported by "
                "gist attention: its phases depend on the length of the pass, so gists would be "
                "read with other phases than they were written with; choose a base model without "
                "it with --base"
            )


def _rope_types(config: PreTrainedConfig) -> list[str]:
    """Of all layers; some architectures have one for each kind of layer."""
    parameters = getattr(config, "rope_parameters", None) or {}
    each = [parameters] if "rope_type" in parameters else parameters.values()
    return [item["rope_type"] for item in each if item]


def settled(config: TrainConfig, model_type: str) -> TrainConfig:
    """The configuration with the modules that its default means for an architecture.

    What is saved is settled, so that a default that changes later leaves old checkpoints as they
    are.
    """
    if config.adapter.target_modules is not None:
        return config
    names = SUPPORTED_ARCHITECTURES[model_type].attention_projections
    adapter = config.adapter.model_copy(update={"target_modules": names})
    return config.model_copy(update={"adapter": adapter})


def is_default_of_some(target_modules: Any) -> bool:
    """Whether saved ``adapter.target_modules`` are what the default means for an architecture.

    A base model has the modules of one architecture alone, so saved names that it was trained
    with are its own default if they are anyone's.
    """
    defaults = {item.attention_projections for item in SUPPORTED_ARCHITECTURES.values()}
    return tuple(target_modules or ()) in defaults
