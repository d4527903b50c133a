"""Where questions look: attention as shares of the visible slots, for diagnosis and for a loss."""

from __future__ import annotations

import torch

from gistbench.core.layout import GistLayout
from gistbench.core.mask import suffix_mask


def visible_shares(
    query: torch.Tensor,
    key: torch.Tensor,
    layout: GistLayout,
    *,
    scaling: float,
    sliding_window: int | None = None,
) -> torch.Tensor:
    """How much of each suffix query's attention falls on each visible slot.

    Args:
        query: As `gist_attention` takes it, in a joint or suffix pass.
        key: Likewise.
        layout: The batch's spans and stage.
        scaling: Factor on the scores.
        sliding_window: W, or None.

    Returns:
        ``(batch, heads, S, V)`` in float32, S the suffix queries of this pass. What a query gives
        to the suffix itself is missing, so its shares sum to less than 1.
    """
    if layout.stage == "joint":
        query = query[:, :, layout.prefix_length :]
        key = key[:, :, layout.prefix_length - layout.num_visible :]
    num_queries, num_suffix_keys = query.shape[2], key.shape[2] - layout.num_visible
    batch, heads, _, head_dim = query.shape
    kv_heads = key.shape[1]
    grouped = query.reshape(batch, kv_heads, heads // kv_heads, num_queries, head_dim)
    scores = (grouped @ key.transpose(2, 3).unsqueeze(2)).flatten(1, 2).float() * scaling
    mask = suffix_mask(layout, num_queries, num_suffix_keys, sliding_window, query.device)
    if mask is not None:
        scores = scores.masked_fill(~mask.unsqueeze(1), float("-inf"))
    shares: torch.Tensor = scores.softmax(dim=-1)[..., : layout.num_visible]
    return shares
