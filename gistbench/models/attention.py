"""The gist attention as a transformers attention function, registered once under one name.

A model loaded with ``attn_implementation=ATTENTION`` cannot be called without a `GistLayout`:
there is no default under which a question might see its context.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from gistbench.core.attention import gist_attention
from gistbench.core.layout import GistLayout
from gistbench.core.shares import visible_shares
from gistbench.core.step import StepView, step_attention

ATTENTION = "gistbench"


def attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    layout: GistLayout | StepView | None = None,
    softcap: float | None = None,
    watch: Callable[[torch.Tensor], None] | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer, as transformers calls it.

    Parameters stand in the order of transformers' fused functions: wrappers of those (kvpress has
    one) hand on the first six by position.

    Args:
        module: The attention module; unused but for its head size.
        query: ``(batch, heads, num_queries, head_dim)``.
        key: ``(batch, kv_heads, num_keys, head_dim)``.
        value: Like ``key``.
        attention_mask: Must be None: the layout alone decides what is visible.
        dropout: Probability on the attention weights.
        scaling: Factor on the scores; ``head_dim ** -0.5`` when absent.
        sliding_window: Passed by architectures that have one.
        layout: The spans of the batch, passed as ``model(..., layout=layout)``; in a static
            decoding step, what the step may read.
        softcap: Must be None: fused kernels cannot bend the scores.
        watch: Given `visible_shares` of every layer in turn, passed as ``model(..., watch=...)``.

    Returns:
        ``(batch, num_queries, heads, head_dim)`` and no weights.

    Raises:
        ValueError: No layout was given, or a mask or a cap was.
    """
    if layout is None:
        raise ValueError("this model attends by a GistLayout: call it as model(..., layout=layout)")
    if attention_mask is not None:
        raise ValueError("a gist layout replaces the attention mask: pass the layout alone")
    if softcap is not None:
        raise ValueError(f"gist attention cannot cap attention scores, at {softcap} or otherwise")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if isinstance(layout, StepView):
        output = step_attention(
            query, key, value, layout, scaling=scaling, sliding_window=sliding_window
        )
        return output.transpose(1, 2), None
    if watch is not None and layout.stage != "prefix":
        watch(visible_shares(query, key, layout, scaling=scaling, sliding_window=sliding_window))
    output = gist_attention(
        query,
        key,
        value,
        layout,
        scaling=scaling,
        sliding_window=sliding_window,
        dropout=dropout,
    )
    return output.transpose(1, 2).contiguous(), None


def attention_mask(
    *_: Any, attention_mask: torch.Tensor | None = None, **__: Any
) -> torch.Tensor | None:
    """Hand a caller's padding mask on as it is, so that `attention_forward` can refuse it."""
    return attention_mask


AttentionInterface.register(ATTENTION, attention_forward)
AttentionMaskInterface.register(ATTENTION, attention_mask)
