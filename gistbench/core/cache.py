"""The key/value cache of a compressed context: the visible slots, and never anything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from gistbench.core.layout import GistLayout


@dataclass(frozen=True, slots=True)
class ContextCache:
    """What is left of a batch of contexts once they have been read.

    Attributes:
        keys: For each layer ``(batch, kv_heads, num_visible, head_dim)``, rotary phases of the
            original positions applied.
        values: Like ``keys``.
        layout: The spans that were read; says at which position a question continues.
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    layout: GistLayout

    def __post_init__(self) -> None:
        for tensor in (*self.keys, *self.values):
            if tensor.shape[2] != self.layout.num_visible:
                raise ValueError(
                    f"a context cache of {self.layout.num_visible} visible slots cannot hold "
                    f"{tensor.shape[2]}"
                )

    @property
    def num_slots(self) -> int:
        """Slots per layer and row."""
        return self.layout.num_visible

    @property
    def num_bytes(self) -> int:
        """Exact bytes of all keys and values."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (*self.keys, *self.values))

    def row(self, index: int) -> ContextCache:
        """One context of the batch, in memory of its own, without the batch's padding."""
        padding = self.layout.prefix_padding[index]
        first = self.layout.visible_padding[index]
        layout = GistLayout(
            prefix_length=self.layout.prefix_length - padding,
            num_visible=self.layout.num_visible - first,
            prefix_padding=(0,),
            suffix_padding=(0,),
            stage="suffix",
            segmented=self.layout.segmented,
            memory=self.layout.memory[index : index + 1],
        )
        keys = tuple(key[index : index + 1, :, first:].clone() for key in self.keys)
        values = tuple(value[index : index + 1, :, first:].clone() for value in self.values)
        return ContextCache(keys, values, layout)

    def select(self, rows: Sequence[int]) -> ContextCache:
        """Rows of the batch in the given order, a row as often as it is named.

        Nothing is copied where every row is wanted once and in order.
        """
        if list(rows) == list(range(self.layout.batch_size)):
            return self
        layout = replace(
            self.layout,
            prefix_padding=tuple(self.layout.prefix_padding[row] for row in rows),
            suffix_padding=tuple(self.layout.suffix_padding[row] for row in rows),
            memory=tuple(self.layout.memory[row] for row in rows) if self.layout.memory else (),
        )
        index = torch.tensor(rows, dtype=torch.long, device=self.keys[0].device)
        return ContextCache(
            tuple(key.index_select(0, index) for key in self.keys),
            tuple(value.index_select(0, index) for value in self.values),
            layout,
        )


def stack(caches: Sequence[ContextCache]) -> ContextCache:
    """Join contexts into one batch; their original lengths may differ.

    Caches of equal size are joined as they are. Of different size they can be where each kept all
    of what it read: its missing slots are then the padding that its row would have been read with.
    What was read segment by segment is such a one, and others become such beside it.

    Raises:
        ValueError: The caches keep different numbers of slots, and not all of them.
    """
    if any(cache.layout.memory for cache in caches):
        caches = [replace(cache, layout=cache.layout.as_memory()) for cache in caches]
    slots = {cache.num_slots for cache in caches}
    if len({cache.layout.segmented for cache in caches}) != 1:
        raise ValueError("segmented and other caches cannot share a batch")
    if len(slots) != 1:
        if any(cache.num_slots != cache.layout.prefix_length for cache in caches):
            raise ValueError(
                f"caches of {sorted(slots)} slots cannot share a batch without padding"
            )
        caches = [_padded(cache, max(slots)) for cache in caches]
        slots = {max(slots)}
    longest = max(cache.layout.prefix_length for cache in caches)
    layout = GistLayout(
        prefix_length=longest,
        num_visible=slots.pop(),
        prefix_padding=tuple(
            longest - cache.layout.prefix_length + padding
            for cache in caches
            for padding in cache.layout.prefix_padding
        ),
        suffix_padding=tuple(0 for cache in caches for _ in cache.layout.prefix_padding),
        stage="suffix",
        segmented=caches[0].layout.segmented,
        memory=tuple(row for cache in caches for row in cache.layout.memory),
    )
    layers = range(len(caches[0].keys))
    return ContextCache(
        tuple(torch.cat([cache.keys[layer] for cache in caches]) for layer in layers),
        tuple(torch.cat([cache.values[layer] for cache in caches]) for layer in layers),
        layout,
    )


def _padded(cache: ContextCache, num_slots: int) -> ContextCache:
    """A whole context with padding on its left, as if it had been read in a longer batch."""
    missing = num_slots - cache.num_slots
    layout = GistLayout(
        prefix_length=num_slots,
        num_visible=num_slots,
        prefix_padding=tuple(padding + missing for padding in cache.layout.prefix_padding),
        suffix_padding=cache.layout.suffix_padding,
        stage="suffix",
        memory=cache.layout.memory,
    )
    # Zeros, not empty memory: padding is masked, but a NaN times nothing is a NaN.
    return ContextCache(
        tuple(F.pad(key, (0, 0, missing, 0)) for key in cache.keys),
        tuple(F.pad(value, (0, 0, missing, 0)) for value in cache.values),
        layout,
    )
