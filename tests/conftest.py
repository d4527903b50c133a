"""Tiny random models of every supported architecture; torch is imported only where it is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

_SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}

TINY: dict[str, dict[str, Any]] = {
    # Windows shorter than the gists' distance, a full layer among them, heads wider than the hidden
    # size allows, and a scale of the scores that is not the heads'.
    "gemma3-window-6": {
        "model_type": "gemma3_text",
        "num_hidden_layers": 3,
        "head_dim": 12,
        "query_pre_attn_scalar": 4,
        "sliding_window": 6,
        "sliding_window_pattern": 2,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
    },
    "gemma3-window-9-capped": {
        "model_type": "gemma3_text",
        "num_hidden_layers": 2,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 9,
        "layer_types": ["full_attention", "sliding_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        "final_logit_softcapping": 30.0,
    },
    "gpt-neox": {"model_type": "gpt_neox", "num_key_value_heads": None, "rotary_pct": 0.25},
    "gpt-neox-serial": {
        "model_type": "gpt_neox",
        "num_hidden_layers": 3,
        "num_key_value_heads": None,
        "rotary_pct": 1.0,
        "use_parallel_residual": False,
        "attention_bias": False,
        "tie_word_embeddings": True,
    },
    "llama": {"model_type": "llama"},
    "llama-tied-3-layers": {
        "model_type": "llama",
        "num_hidden_layers": 3,
        "num_key_value_heads": 4,
        "tie_word_embeddings": True,
    },
    "mistral": {"model_type": "mistral", "sliding_window": None},
    # Prefixes of 24 slots in the proofs: 8 divides them, 7 does not, 2 is less than the gists
    "mistral-window-8": {"model_type": "mistral", "sliding_window": 8},
    "mistral-window-7": {"model_type": "mistral", "sliding_window": 7, "num_hidden_layers": 3},
    # (five layers, so that the answer depends on the context through them).
    "mistral-window-2": {"model_type": "mistral", "sliding_window": 2, "num_hidden_layers": 5},
    "qwen2": {"model_type": "qwen2"},
    "qwen2-window-9": {  # the first layer full, the others sliding
        "model_type": "qwen2",
        "num_hidden_layers": 3,
        "use_sliding_window": True,
        "sliding_window": 9,
        "max_window_layers": 1,
    },
    "qwen3": {"model_type": "qwen3", "head_dim": 12, "tie_word_embeddings": True},
    "qwen3-window-6": {
        "model_type": "qwen3",
        "head_dim": 8,
        "use_sliding_window": True,
        "sliding_window": 6,
        "max_window_layers": 0,
    },
}
"""Name -> what differs from `_SIZES`; one of each supported model type at least."""


def build_tiny(name: str, *, seed: int = 0, **changes: Any) -> Any:
    """A random model in float32 whose attention is far from uniform and whose logits spread."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from gistbench.models.attention import ATTENTION

    fields = {**_SIZES, **TINY[name], **changes}
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    model = AutoModelForCausalLM.from_config(
        config, attn_implementation=ATTENTION, dtype=torch.float32
    )
    generator = torch.Generator().manual_seed(seed)
    gemma = config.model_type == "gemma3_text"
    with torch.no_grad():
        for label, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 1:
                centre = 1.0 if label.endswith("norm.weight") else 0.0
                if gemma:
                    # Its norms add 1 to their weights, and those behind a layer must keep up with
                    # the scaled embeddings.
                    centre = config.hidden_size**0.5 if ".post_" in label else 0.0
                weight.copy_(0.2 * noise + centre)
            else:
                # Sharp attention, and layers that outweigh the token they started from.
                sharp = ("q_proj", "k_proj", "o_proj", "down_proj", "query_key_value", "dense")
                spread = 2.0 if any(part in label for part in sharp) else 1.0
                scale = 1.0 if "embed" in label else weight.shape[1] ** -0.5
                weight.copy_(noise * scale * (6.0 if "lm_head" in label else spread))
    return model.eval()


@pytest.fixture(params=list(TINY))
def tiny(request: pytest.FixtureRequest) -> Any:
    """A tiny model of each architecture in turn."""
    return build_tiny(request.param)


@pytest.fixture
def make_tiny() -> Callable[..., Any]:
    """`build_tiny`, for tests that choose the architecture."""
    return build_tiny


@pytest.fixture
def tiny_model_types() -> set[str]:
    """The model types that `tiny` covers."""
    return {fields["model_type"] for fields in TINY.values()}
