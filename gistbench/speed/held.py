"""Contexts in memory of a chosen place: stored in one block each, or loaded to be answered.

Both are filled by a read that writes where the context will lie, so that the last context needs
no room besides its own and that of the read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache

from gistbench.core.footprint import Architecture
from gistbench.core.layout import GistLayout
from gistbench.models.cache import VisibleLayer
from gistbench.models.static import DecodingStep

Places = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""For each layer, where keys and values go, ``(1, kv_heads, slots, head_dim)`` each."""


class PlacedLayer(VisibleLayer):
    """Takes one prefix; writes its visible slots where they are to be, and keeps nothing else."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__(keys.shape[2])
        self._places = (keys, values)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the visible slots of ``(1, kv_heads, prefix, head_dim)``; return all of it."""
        if self.is_initialized:
            raise ValueError("a context is read in one pass")
        self.lazy_initialization(key_states, value_states)
        self.keys, self.values = self._places
        first = key_states.shape[2] - self.num_visible
        self.keys.copy_(key_states[:, :, first:])
        self.values.copy_(value_states[:, :, first:])
        return key_states, value_states


def context_layout(num_tokens: int, num_gists: int, *, segmented: bool) -> GistLayout:
    """One context with its gists, or one that is kept whole, for its read."""
    return GistLayout(
        prefix_length=num_tokens + num_gists,
        num_visible=num_gists or num_tokens,
        prefix_padding=(0,),
        suffix_padding=(0,),
        stage="prefix",
        segmented=segmented,
    )


@torch.inference_mode()
def read_into(
    model: torch.nn.Module, ids: Sequence[int], layout: GistLayout, places: Places
) -> None:
    """Read one context in one pass, into memory that is there already.

    Args:
        model: A causal language model with the gist attention.
        ids: Context and gists.
        layout: Theirs.
        places: Where the visible slots go.
    """
    device = next(model.parameters()).device
    model(
        input_ids=torch.tensor([list(ids)], dtype=torch.long, device=device),
        position_ids=layout.prefix_positions(device),
        past_key_values=Cache(layers=[PlacedLayer(keys, values) for keys, values in places]),
        use_cache=True,
        logits_to_keep=1,
        layout=layout,
    )


class Shape:
    """Sizes of what one context keeps.

    Attributes:
        layers: Of the model.
        row: ``(kv_heads, slots, head_dim)`` of each layer's keys.
        dtype: Of keys and values.
        device: Where they lie.
    """

    def __init__(self, model: torch.nn.Module, slots: int, dtype: torch.dtype) -> None:
        config: Any = model.config
        sizes = Architecture.of(config.to_dict())
        self.layers = sizes.num_layers
        self.row = (sizes.num_kv_heads, slots, sizes.head_dim)
        self.dtype = dtype
        self.device = next(model.parameters()).device


def block(shape: Shape) -> torch.Tensor:
    """Memory for one context, in one piece: ``(layers, 2, 1, kv_heads, slots, head_dim)``.

    A tensor for each layer would be rounded up for each layer, more for some lengths than others.
    """
    return torch.empty((shape.layers, 2, 1, *shape.row), dtype=shape.dtype, device=shape.device)


def places_in(stored: torch.Tensor) -> Places:
    """Where a block's keys and values lie."""
    return [(layer[0], layer[1]) for layer in stored]


class HeldBatch(DecodingStep):
    """A batch whose contexts lie in the buffers that they are answered from, and nowhere else.

    The other loops copy what they are given. Where a budget counts, a second copy of every context
    would be a cost of the loop, and a larger one for full context.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        shape: Shape,
        rows: int,
        num_slots: int,
        num_text_tokens: int,
        *,
        compiled: bool = False,
    ) -> None:
        super().__init__(model, (rows, num_slots, num_text_tokens), shape.device, compiled=compiled)
        heads, self._visible, head_dim = shape.row
        like = torch.empty((rows, heads, 0, head_dim), dtype=shape.dtype, device=shape.device)
        for layer in self._layers:
            layer.reserve(like)

    @property
    def num_bytes(self) -> int:
        """Of all buffers."""
        return sum(layer.num_bytes for layer in self._layers)

    def spread(self) -> None:
        """Copy the first row's context to all others."""
        rows = self.shape[0]
        for layer in self._layers if rows > 1 else ():
            first, rest = layer.rows(0, 1, self._visible), layer.rows(1, rows, self._visible)
            rest.keys.copy_(first.keys.expand_as(rest.keys))
            rest.values.copy_(first.values.expand_as(rest.values))

    def places_of(self, row: int) -> Places:
        """Where a row's context lies."""
        found = [layer.rows(row, row + 1, self._visible) for layer in self._layers]
        return [(layer.keys, layer.values) for layer in found]

    @torch.inference_mode()
    def ask_loaded(self, ids: torch.Tensor, layout: GistLayout, rows_at_once: int) -> None:
        """Read the questions of loaded contexts, some rows at a time, and be ready to go on.

        Args:
            ids: ``(rows, question)``, of one length.
            layout: Of one context, stage "suffix"; all rows are alike.
            rows_at_once: Of one pass at most.
        """
        rows, num_slots, num_text_tokens = self.shape
        first = layout.num_visible + ids.shape[1]
        for start in range(0, rows, rows_at_once):
            end = min(rows, start + rows_at_once)
            part = repeated(layout, end - start)
            layers = [layer.rows(start, end, self._visible) for layer in self._layers]
            logits = self.model(
                input_ids=ids[start:end],
                position_ids=part.suffix_positions(0, ids.shape[1], self.device),
                past_key_values=Cache(layers=layers),
                use_cache=True,
                logits_to_keep=1,
                layout=part,
            ).logits
            self.tokens[start:end, first] = logits[:, -1, :num_text_tokens].argmax(dim=-1)
        self._go_on_from(repeated(layout, rows), num_slots, first)


def repeated(layout: GistLayout, rows: int) -> GistLayout:
    """The layout of as many rows as one."""
    return GistLayout(
        prefix_length=layout.prefix_length,
        num_visible=layout.num_visible,
        prefix_padding=layout.prefix_padding * rows,
        suffix_padding=layout.suffix_padding * rows,
        stage="suffix",
        segmented=layout.segmented,
    )
