"""transformers caches that store what a `GistLayout` keeps, and nothing else.

The context's keys and values pass through attention layer by layer and are never stored: a gist
cache does not drop them later, it never takes them.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from gistbench.core.cache import ContextCache
from gistbench.core.layout import GistLayout


class VisibleLayer(DynamicLayer):
    """Takes one prefix; stores its last ``num_visible`` slots in memory of their own."""

    def __init__(self, num_visible: int) -> None:
        super().__init__()
        self.num_visible = num_visible

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the visible slots of ``(batch, kv_heads, prefix, head_dim)``; return all of it."""
        if self.is_initialized:
            raise ValueError("a context is read in one pass; open its cache to go on")
        self.lazy_initialization(key_states, value_states)
        first = key_states.shape[2] - self.num_visible
        self.keys, self.values = key_states, value_states
        if first:
            # A slice would keep the whole context's storage alive.
            self.keys = key_states[:, :, first:].clone()
            self.values = value_states[:, :, first:].clone()
        return key_states, value_states


class RoomyLayer(DynamicLayer):
    """A cached prefix with room for the suffix, written in place: no copy at each new token."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, room: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.length = keys.shape[2]
        self._keys, self._values = (
            torch.cat([tensor, tensor.new_empty((*tensor.shape[:2], room, tensor.shape[3]))], dim=2)
            for tensor in (keys, values)
        )
        self.keys, self.values = keys, values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append ``(batch, kv_heads, new, head_dim)``; return everything so far."""
        end = self.length + key_states.shape[2]
        if end > self._keys.shape[2]:
            raise ValueError(f"the cache has room for {self._keys.shape[2]} slots, not {end}")
        self._keys[:, :, self.length : end] = key_states
        self._values[:, :, self.length : end] = value_states
        self.length = end
        self.keys, self.values = self._keys[:, :, :end], self._values[:, :, :end]
        return self.keys, self.values


def collecting_cache(layout: GistLayout, num_layers: int) -> Cache:
    """An empty cache for the prefix pass, keeping the layout's visible slots."""
    return Cache(layers=[VisibleLayer(layout.num_visible) for _ in range(num_layers)])


def collected(cache: Cache, layout: GistLayout) -> ContextCache:
    """What a prefix pass left in its `collecting_cache`."""
    return ContextCache(
        tuple(layer.keys for layer in cache.layers),
        tuple(layer.values for layer in cache.layers),
        layout.at("suffix"),
    )


def open_cache(context: ContextCache, room: int) -> Cache:
    """A cache that continues after a context; the context itself is left as it is.

    Args:
        context: What was kept; with no layers (no context at all) the cache grows from nothing.
        room: Suffix slots to reserve.
    """
    if not context.keys:
        return Cache(layer_class_to_replicate=DynamicLayer)
    return Cache(
        layers=[
            RoomyLayer(keys, values, room)
            for keys, values in zip(context.keys, context.values, strict=True)
        ]
    )
