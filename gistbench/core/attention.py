"""Exact attention over a `GistLayout` without a mask over the context.

The long prefix runs through fused causal kernels; the short suffix attends to the few slots it may
see. The context's keys are not hidden from the question by a mask: they are not among its inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.backends.cuda import SDPAParams, can_use_flash_attention
from torch.nn.attention.bias import causal_lower_right

from gistbench.core.layout import GistLayout
from gistbench.core.mask import chunk_mask, segment_mask, suffix_mask


def gist_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: GistLayout,
    *,
    scaling: float,
    sliding_window: int | None = None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Attend as the layout says.

    Args:
        query: ``(batch, heads, num_queries, head_dim)``.
        key: ``(batch, kv_heads, num_keys, head_dim)``; rotary phases already applied. Prefix
            stage: P keys for P queries. Chunk: every prefix slot so far, for the newest queries.
            Joint: P + S for P + S. Suffix: the V visible slots and
            every suffix slot so far, for the newest queries.
        value: Like ``key``.
        layout: The batch's spans and stage.
        scaling: Factor on the scores.
        sliding_window: W: a query sees keys whose position is less than W behind its own.
        dropout: Probability on the attention weights.

    Returns:
        ``(batch, heads, num_queries, head_dim)``. Rows of padding hold finite values that nothing
        reads.

    Raises:
        ValueError: The tensors do not have the sizes that the layout's stage requires.
    """
    _check_sizes(query, key, layout)
    prefix, visible = layout.prefix_length, layout.num_visible
    if layout.stage in ("prefix", "chunk"):
        return _prefix(query, key, value, layout, scaling, sliding_window, dropout)
    if layout.stage == "suffix":
        return _suffix(query, key, value, layout, scaling, sliding_window, dropout)

    seen_key, seen_value = key[:, :, prefix - visible :], value[:, :, prefix - visible :]
    if layout.detach_visible:
        seen_key, seen_value = (
            torch.cat([seen[:, :, :visible].detach(), seen[:, :, visible:]], dim=2)
            for seen in (seen_key, seen_value)
        )
    suffix = _suffix(
        query[:, :, prefix:], seen_key, seen_value, layout, scaling, sliding_window, dropout
    )
    if prefix == 0:
        return suffix
    own = (query[:, :, :prefix], key[:, :, :prefix], value[:, :, :prefix])
    return torch.cat([_prefix(*own, layout, scaling, sliding_window, dropout), suffix], dim=2)


def _check_sizes(query: torch.Tensor, key: torch.Tensor, layout: GistLayout) -> None:
    batch, _, num_queries, _ = query.shape
    num_keys = key.shape[2]
    expected = {
        "prefix": num_queries == num_keys == layout.prefix_length,
        "chunk": num_queries <= num_keys <= layout.prefix_length,
        "joint": num_queries == num_keys > layout.prefix_length,
        "suffix": num_keys >= layout.num_visible + num_queries,
    }
    if batch != layout.batch_size or not expected[layout.stage]:
        raise ValueError(
            f"{batch} rows of {num_queries} queries and {num_keys} keys do not fit a "
            f"{layout.stage} pass of {layout.batch_size} rows with {layout.prefix_length} prefix "
            f"slots, {layout.num_visible} of them visible"
        )


def _prefix(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: GistLayout,
    scaling: float,
    sliding_window: int | None,
    dropout: float,
) -> torch.Tensor:
    """Attention of the newest prefix slots: causal, or for segmented gists each to its own part."""
    if not layout.segmented or not layout.num_visible:
        return _padded_causal(query, key, value, layout, scaling, sliding_window, dropout)
    end, num_queries = key.shape[2], query.shape[2]
    first = layout.prefix_length - layout.num_visible
    num_context = min(max(first - (end - num_queries), 0), num_queries)
    parts = []
    if num_context:
        seen = end - (num_queries - num_context)
        own = (query[:, :, :num_context], key[:, :, :seen], value[:, :, :seen])
        parts.append(_padded_causal(*own, layout, scaling, sliding_window, dropout))
    if num_context < num_queries:
        mask = segment_mask(layout, sliding_window, query.device)
        mask = mask[:, end - first - (num_queries - num_context) : end - first, :end].unsqueeze(1)
        parts.append(_fold_groups(query[:, :, num_context:], key, value, mask, scaling, dropout))
    return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]


def _padded_causal(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: GistLayout,
    scaling: float,
    sliding_window: int | None,
    dropout: float,
) -> torch.Tensor:
    """Causal attention of the newest slots, rows of equal padding together, padding cut off."""
    end = key.shape[2]
    start = end - query.shape[2]
    if sliding_window is not None and start:
        # Behind a memory a position says more than a slot; without one the two go together.
        first_key = 0 if layout.memory else max(0, start - sliding_window + 1)
        mask = chunk_mask(layout, first_key, start, end, sliding_window, query.device).unsqueeze(1)
        own = (query, key[:, :, first_key:], value[:, :, first_key:])
        return _fold_groups(*own, mask, scaling, dropout)
    groups: dict[int, list[int]] = {}
    for row, padding in enumerate(layout.prefix_padding):
        groups.setdefault(padding, []).append(row)
    if list(groups) == [0]:
        return _causal(query, key, value, scaling, sliding_window, dropout)
    # Padding rows keep a zero output. Nothing reads it.
    output = torch.zeros_like(query)
    for padding, members in groups.items():
        if padding >= end:
            continue
        rows = torch.tensor(members, device=query.device)
        first = max(padding - start, 0)
        output[rows, :, first:] = _causal(
            query[rows, :, first:],
            key[rows, :, padding:],
            value[rows, :, padding:],
            scaling,
            sliding_window,
            dropout,
        )
    return output


def _causal(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    sliding_window: int | None,
    dropout: float,
) -> torch.Tensor:
    """Causal attention of the newest slots of equally long rows without padding, fused."""
    length = query.shape[2]
    if length < key.shape[2]:
        return _causal_behind(query, key, value, scaling, dropout)
    if sliding_window is not None and length > sliding_window:
        return _causal_banded(query, key, value, scaling, sliding_window, dropout)
    grouped = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scaling, dropout_p=dropout, enable_gqa=grouped
    )


def _causal_behind(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    dropout: float,
) -> torch.Tensor:
    """Causal attention of queries whose last slot is that of the last key.

    Flash attention (Dao, 2023, arXiv 2307.08691) aligns both at their ends by itself. Where it
    cannot run, the mask is ``(num_queries, num_keys)``.
    """
    num_queries, num_keys = query.shape[2], key.shape[2]
    grouped = query.shape[1] != key.shape[1]
    if num_queries == 1:
        return _fold_groups(query, key, value, None, scaling, dropout)
    if query.is_cuda:
        params = SDPAParams(query, key, value, None, dropout, False, grouped)
        if can_use_flash_attention(params):
            return F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=causal_lower_right(num_queries, num_keys),
                scale=scaling,
                dropout_p=dropout,
                enable_gqa=grouped,
            )
    mask = torch.ones(num_queries, num_keys, dtype=torch.bool, device=query.device)
    mask = mask.tril(num_keys - num_queries).view(1, 1, num_queries, num_keys)
    return _fold_groups(query, key, value, mask, scaling, dropout)


def _causal_banded(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    window: int,
    dropout: float,
) -> torch.Tensor:
    """Sliding-window attention by blocks of one window: each sees itself and the block before.

    The mask is ``(window, 2 * window)`` however long the sequence is.
    """
    batch, heads, length, head_dim = query.shape
    blocks = -(-length // window)
    fill = blocks * window - length

    def in_blocks(tensor: torch.Tensor, before: int) -> torch.Tensor:
        padded = F.pad(tensor, (0, 0, before, fill))[:, :, : blocks * window]
        rows, channels = padded.shape[:2]
        split = padded.reshape(rows, channels, blocks, window, padded.shape[3])
        return split.transpose(1, 2).flatten(0, 1)

    def with_previous(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([in_blocks(tensor, window), in_blocks(tensor, 0)], dim=2)

    slot = torch.arange(window, device=query.device).unsqueeze(1)
    other = torch.arange(-window, window, device=query.device)
    band = (other <= slot) & (slot - other < window)
    first = band & (other >= 0)
    mask = torch.stack([first] + [band] * (blocks - 1)).repeat(batch, 1, 1).unsqueeze(1)
    output = _fold_groups(
        in_blocks(query, 0), with_previous(key), with_previous(value), mask, scaling, dropout
    )
    merged = output.reshape(batch, blocks, heads, window, head_dim).transpose(1, 2)
    return merged.reshape(batch, heads, blocks * window, head_dim)[:, :, :length]


def _suffix(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: GistLayout,
    scaling: float,
    sliding_window: int | None,
    dropout: float,
) -> torch.Tensor:
    """Attention of the newest suffix slots to the visible prefix slots and the suffix so far."""
    num_queries, num_suffix_keys = query.shape[2], key.shape[2] - layout.num_visible
    mask = suffix_mask(layout, num_queries, num_suffix_keys, sliding_window, query.device)
    mask = None if mask is None else mask.unsqueeze(1)
    return _fold_groups(query, key, value, mask, scaling, dropout)


def _fold_groups(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    dropout: float,
) -> torch.Tensor:
    """Masked attention in which query heads that share a key head become more query rows.

    Grouped-query attention (Ainslie et al., 2023, arXiv 2305.13245) without repeating keys and
    values in memory. ``mask`` is ``(batch or 1, 1, num_queries, num_keys)`` or None.
    """
    batch, heads, num_queries, head_dim = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    folded = query.reshape(batch, kv_heads, groups * num_queries, head_dim)
    if mask is not None:
        mask = mask.repeat(1, 1, groups, 1).expand(batch, 1, -1, -1)
    output = F.scaled_dot_product_attention(
        folded, key, value, attn_mask=mask, scale=scaling, dropout_p=dropout
    )
    return output.reshape(batch, heads, num_queries, head_dim)
