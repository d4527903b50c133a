"""transformers caches that store what a `GistLayout` keeps, and nothing else.

Read in one pass, the context's keys and values go through attention layer by layer and are never
stored: a gist cache does not drop them later, it never takes them. Only a context that is read in
chunks is held until its last chunk, since every chunk looks at those before it.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from gistbench.core.cache import ContextCache
from gistbench.core.layout import GistLayout

Slots = tuple[torch.Tensor, torch.Tensor]
"""Keys and values ``(batch, kv_heads, slots, head_dim)``."""


class VisibleLayer(DynamicLayer):
    """Takes one prefix; stores its last ``num_visible`` slots in memory of their own.

    Slots kept of earlier segments of the context stand before both, in attention and in the cache.
    """

    def __init__(self, num_visible: int, memory: Slots | None = None) -> None:
        super().__init__()
        self.num_visible = num_visible
        self.memory = memory

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
        if self.memory is None:
            return key_states, value_states
        keys, values = self.memory
        self.memory = None
        self.keys = torch.cat([keys, self.keys], dim=2)
        self.values = torch.cat([values, self.values], dim=2)
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)


class RoomyLayer(DynamicLayer):
    """A cached prefix with room for the suffix, written in place: no copy at each new token."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, room: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.length = keys.shape[2]
        # Not torch.cat, which would hold the room twice for a moment.
        self._keys, self._values = (
            tensor.new_empty((*tensor.shape[:2], self.length + room, tensor.shape[3]))
            for tensor in (keys, values)
        )
        self._keys[:, :, : self.length] = keys
        self._values[:, :, : self.length] = values
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


class JoinedLayer(DynamicLayer):
    """A cached prefix that a suffix is joined to in one piece, as gradients take the short way.

    Through a `RoomyLayer` they come as well, but each of its four writes in place is undone by
    copies of the whole room.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values


class ChunkedLayer(RoomyLayer):
    """Takes a prefix chunk by chunk, after what earlier segments left; stores all of it.

    The room for it is taken once.
    """

    def __init__(self, room: int, memory: Slots | None = None) -> None:
        DynamicLayer.__init__(self)
        self.room = room
        if memory is not None:
            RoomyLayer.__init__(self, *memory, room=room)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append ``(batch, kv_heads, chunk, head_dim)``; return everything so far."""
        if not self.is_initialized:
            RoomyLayer.__init__(self, key_states[:, :, :0], value_states[:, :, :0], self.room)
        return super().update(key_states, value_states)

    def keep(self, first: int, last: int) -> None:
        """Drop all but the first and the last so many slots, and the memory that they took."""
        if first + last < self.length:
            end = self.length - last
            self.keys, self.values = (
                torch.cat([tensor[:, :, :first], tensor[:, :, end : self.length]], dim=2)
                for tensor in (self._keys, self._values)
            )
            self._keys, self._values = self.keys, self.values
            self.length = first + last


def collecting_cache(
    layout: GistLayout,
    num_layers: int,
    *,
    chunked: bool = False,
    memory: ContextCache | None = None,
) -> Cache:
    """A cache for the prefix pass, or the passes of its chunks.

    Args:
        layout: The batch's spans.
        num_layers: Of the model.
        chunked: Take the prefix in chunks; all of it is then held until `collected`.
        memory: What earlier segments left, if there were any.
    """
    held: list[Slots | None] = [None] * num_layers
    if memory is not None:
        held = list(zip(memory.keys, memory.values, strict=True))
    if not chunked:
        return Cache(layers=[VisibleLayer(layout.num_visible, slots) for slots in held])
    room = layout.prefix_length - max(layout.memory_slots)
    return Cache(layers=[ChunkedLayer(room, slots) for slots in held])


def collected(cache: Cache, layout: GistLayout) -> ContextCache:
    """What a prefix pass, or the passes of its chunks, left in their `collecting_cache`."""
    for layer in cache.layers:
        if isinstance(layer, ChunkedLayer):
            layer.keep(max(layout.memory_slots), layout.num_visible)
    return ContextCache(
        tuple(layer.keys for layer in cache.layers),
        tuple(layer.values for layer in cache.layers),
        layout.as_memory() if layout.memory else layout.at("suffix"),
    )


def open_cache(context: ContextCache, room: int | None) -> Cache:
    """A cache that continues after a context; the context itself is left as it is.

    Args:
        context: What was kept; with no layers (no context at all) the cache grows from nothing.
        room: Suffix slots to reserve; None: for a suffix in one piece, with gradients.
    """
    if not context.keys:
        return Cache(layer_class_to_replicate=DynamicLayer)
    pairs = zip(context.keys, context.values, strict=True)
    return Cache(
        layers=[
            JoinedLayer(keys, values) if room is None else RoomyLayer(keys, values, room)
            for keys, values in pairs
        ]
    )
