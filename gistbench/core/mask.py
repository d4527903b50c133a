"""The layout as a boolean mask: the definition that every attention path is held against.

Drawn for four context tokens, two gists and three question tokens (``x``: may see)::

              c c c c g g q q q
        c     x . . . . . . . .
        c     x x . . . . . . .
        c     x x x . . . . . .
        c     x x x x . . . . .
        g     x x x x x . . . .
        g     x x x x x x . . .
        q     . . . . x x x . .
        q     . . . . x x x x .
        q     . . . . x x x x x

With `segmented`, each gist reads its own part of the context::

              c c c c g g q q q
        g     x x . . x . . . .
        g     . . x x x x . . .

The context stands to the question as if it had never been there. A sliding window of W removes
every pair of slots whose positions differ by W or more. `dense_mask` costs the square of the
length and serves tests and short inputs; `gistbench.core.attention` computes the same without it.
"""

from __future__ import annotations

import torch

from gistbench.core.layout import GistLayout


def dense_mask(
    layout: GistLayout, suffix_length: int, sliding_window: int | None = None
) -> torch.Tensor:
    """Which key each query may see in the joint pass.

    Args:
        layout: The batch's spans.
        suffix_length: S, slots after the prefix.
        sliding_window: W, or None for full attention.

    Returns:
        Boolean ``(batch, P + S, P + S)``, True where the query (row) may see the key (column).
        Rows of padding see themselves alone, so that no softmax is empty.
    """
    length = layout.prefix_length + suffix_length
    slot = torch.arange(length)
    is_suffix = slot >= layout.prefix_length
    query, key = slot.unsqueeze(1), slot.unsqueeze(0)
    causal = key <= query
    hidden = is_suffix.unsqueeze(1) & (key < layout.prefix_length - layout.num_visible)
    allowed = (causal & ~hidden).unsqueeze(0).repeat(layout.batch_size, 1, 1)
    if layout.segmented:
        first = layout.prefix_length - layout.num_visible
        allowed[:, first : layout.prefix_length, : layout.prefix_length] &= segment_mask(layout)

    real = torch.stack(
        [
            torch.where(is_suffix, slot >= layout.prefix_length + suffix_pad, slot >= prefix_pad)
            for prefix_pad, suffix_pad in zip(
                layout.prefix_padding, layout.suffix_padding, strict=True
            )
        ]
    )
    allowed &= real.unsqueeze(1) & real.unsqueeze(2)
    if sliding_window is not None:
        position = layout.joint_positions(suffix_length)
        allowed &= position.unsqueeze(2) - position.unsqueeze(1) < sliding_window
    allowed |= torch.eye(length, dtype=torch.bool) & ~real.unsqueeze(2)
    return allowed


def segment_mask(
    layout: GistLayout,
    sliding_window: int | None = None,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Which prefix slot each visible slot may read: its part of the context, and those before it.

    The memory, if there is one, is read by all of them.

    Args:
        layout: The batch's spans, segmented.
        sliding_window: W, or None for full attention.
        device: Where the mask is needed.

    Returns:
        Boolean ``(batch, V, P)``; small, since the visible slots are few. All layers of a pass
        share it: it is not to be written to.
    """
    return layout.share(
        ("segment", sliding_window),
        torch.device(device),
        lambda: _segment_mask(layout, sliding_window, device),
    )


def _segment_mask(
    layout: GistLayout, sliding_window: int | None, device: torch.device | str
) -> torch.Tensor:
    bounds = layout.segment_bounds(device)
    slot = torch.arange(layout.prefix_length, device=device)
    own_part = (slot >= bounds[:, :-1, None]) & (slot < bounds[:, 1:, None])
    first = layout.prefix_length - layout.num_visible
    visible = torch.arange(first, layout.prefix_length, device=device)
    allowed = own_part | ((slot >= first) & (slot <= visible[:, None]))
    if layout.memory:
        start = torch.tensor(layout.prefix_padding, device=device).view(-1, 1, 1)
        allowed |= (slot >= start) & (slot < bounds[:, :1, None])
    if sliding_window is not None:
        position = layout.prefix_positions(device)
        allowed &= position[:, first:, None] - position[:, None] < sliding_window
    return allowed


def chunk_mask(
    layout: GistLayout,
    first_key: int,
    first_query: int,
    end: int,
    sliding_window: int,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Which prefix slot each of the newest may see, by position: for windows behind a cache.

    Args:
        layout: The batch's spans; for segmented gists see `segment_mask` instead.
        first_key: First slot among the keys.
        first_query: First slot among the queries.
        end: Slot after the last of both.
        sliding_window: W.
        device: Where the mask is needed.

    Returns:
        Boolean ``(batch, end - first_query, end - first_key)``.
    """
    key = torch.arange(first_key, end, device=device)
    query = torch.arange(first_query, end, device=device).unsqueeze(1)
    position = layout.prefix_positions(device)
    behind = position[:, first_query:end, None] - position[:, None, first_key:end]
    padding = torch.tensor(layout.prefix_padding, device=device).view(-1, 1, 1)
    allowed = (key <= query) & (behind < sliding_window) & (key >= padding)
    return torch.where(query >= padding, allowed, key == query)


def suffix_mask(
    layout: GistLayout,
    num_queries: int,
    num_suffix_keys: int,
    sliding_window: int | None,
    device: torch.device,
) -> torch.Tensor | None:
    """Which key the last suffix queries may see: the visible prefix slots, then the suffix.

    Args:
        layout: The batch's spans.
        num_queries: Q, the newest suffix slots, being processed now.
        num_suffix_keys: K, suffix slots so far, the queries included.
        sliding_window: W, or None for full attention.
        device: Where the mask is needed.

    Returns:
        Boolean ``(batch or 1, Q, V + K)``, small since the suffix is short; or None where every
        query may see every key (one new token, no padding, nothing beyond the window). All layers
        of a pass share it: it is not to be written to.
    """
    return layout.share(
        ("suffix", sliding_window),
        (num_queries, num_suffix_keys, device),
        lambda: _suffix_mask(layout, num_queries, num_suffix_keys, sliding_window, device),
    )


def _suffix_mask(
    layout: GistLayout,
    num_queries: int,
    num_suffix_keys: int,
    sliding_window: int | None,
    device: torch.device,
) -> torch.Tensor | None:
    visible = layout.num_visible
    padded = any(layout.visible_padding) or any(layout.suffix_padding)
    # Positions of segmented gists, or of a memory, reach back as far as the context did.
    reach = layout.prefix_length if layout.segmented else visible
    if layout.memory:
        reach = max(row[-1] + 1 if row else 0 for row in layout.memory)
    windowed = sliding_window is not None and reach + num_suffix_keys > sliding_window
    if num_queries == 1 and not padded and not windowed:
        return None
    key = torch.arange(visible + num_suffix_keys, device=device)
    query = torch.arange(
        visible + num_suffix_keys - num_queries, visible + num_suffix_keys, device=device
    ).unsqueeze(1)
    allowed = (key <= query).unsqueeze(0)
    if sliding_window is not None:
        first = layout.prefix_length - visible
        position = torch.cat(
            [
                layout.prefix_positions(device)[:, first:],
                layout.suffix_positions(0, num_suffix_keys, device),
            ],
            dim=1,
        )
        behind = position[:, -num_queries:, None] - position[:, None]
        allowed = allowed & (behind < sliding_window)
    if padded:
        first_visible = torch.tensor(layout.visible_padding, device=device).view(-1, 1, 1)
        first_suffix = torch.tensor(layout.suffix_padding, device=device).view(-1, 1, 1) + visible
        real_key = torch.where(key < visible, key >= first_visible, key >= first_suffix)
        real_query = query >= first_suffix
        allowed = torch.where(real_query, allowed & real_key, key == query)
    return allowed
