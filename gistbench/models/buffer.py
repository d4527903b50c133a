"""A cache layer of fixed size and place, for decoding steps whose shapes never change."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer


class BufferLayer(DynamicLayer):
    """Keys and values in a buffer that stays where it is, filled anew for each batch.

    Questions are written in one piece, as in `RoomyLayer`. With a `slot`, one token per row is
    written where that tensor says, and the whole buffer is returned: what has been written is then
    for the attention to know, and no shape depends on it.
    """

    def __init__(self, num_slots: int) -> None:
        super().__init__()
        self.num_slots = num_slots
        self.length = 0
        self.slot: torch.Tensor | None = None
        self._keys: torch.Tensor | None = None
        self._values: torch.Tensor | None = None

    def load(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Begin with ``(batch, kv_heads, visible, head_dim)``; the rest of the buffer is zero.

        Not left as it was: slots behind the last token are masked, but a NaN times nothing is a
        NaN.
        """
        own_keys, own_values = self._buffers(keys)
        self.length = keys.shape[2]
        for buffer, tensor in ((own_keys, keys), (own_values, values)):
            buffer[:, :, : self.length] = tensor
            buffer[:, :, self.length :].zero_()
        self.keys, self.values = own_keys[:, :, : self.length], own_values[:, :, : self.length]

    def get_seq_length(self) -> int:
        """Slots that are filled; all of them while steps of constant shape run.

        A compiled step holds what Python sees for constant, and this would grow between steps.
        """
        return self.length if self.slot is None else self.num_slots

    @property
    def num_bytes(self) -> int:
        """Of the buffers, filled or not."""
        held = (self._keys, self._values)
        return sum(each.numel() * each.element_size() for each in held if each is not None)

    def reserve(self, like: torch.Tensor) -> None:
        """Take the memory of ``(batch, kv_heads, slots, head_dim)`` now; `like` has any slots."""
        self._buffers(like)

    def rows(self, start: int, end: int, length: int) -> BufferLayer:
        """Some rows of this buffer as a layer of their own, in the same memory.

        Args:
            start: First row.
            end: Row behind the last.
            length: Slots that are filled already.
        """
        assert self._keys is not None
        assert self._values is not None
        part = BufferLayer(self.num_slots)
        part.lazy_initialization(self._keys, self._values)
        part._keys, part._values = self._keys[start:end], self._values[start:end]
        part.length = length
        part.keys, part.values = part._keys[:, :, :length], part._values[:, :, :length]
        return part

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write ``(batch, kv_heads, new, head_dim)``; return what may be read, or all of it."""
        keys, values = self._buffers(key_states)
        if self.slot is not None:
            keys.index_copy_(2, self.slot, key_states)
            values.index_copy_(2, self.slot, value_states)
            return keys, values
        end = self.length + key_states.shape[2]
        if end > self.num_slots:
            raise ValueError(f"the cache has room for {self.num_slots} slots, not {end}")
        keys[:, :, self.length : end] = key_states
        values[:, :, self.length : end] = value_states
        self.length = end
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def _buffers(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self._keys is None or self._values is None:
            self.lazy_initialization(like, like)
            batch, heads, _, head_dim = like.shape
            self._keys = like.new_zeros((batch, heads, self.num_slots, head_dim))
            self._values = torch.zeros_like(self._keys)
        return self._keys, self._values

    def release(self) -> None:
        """Free the buffer."""
        self.slot = self._keys = self._values = None
        self.keys = self.values = torch.empty(0)

    def clear(self) -> None:
        """Begin with nothing at all."""
        self.length = 0
        if self._keys is not None and self._values is not None:
            self.load(self._keys[:, :, :0], self._values[:, :, :0])
