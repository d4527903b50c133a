"""Reading long contexts: in chunks, which changes nothing, or in segments, which does.

One pass over n tokens holds the activations of all of them. In chunks it holds those of one chunk,
and the context's keys and values. In segments it holds one segment's: the gists of a segment are
written, its context is dropped, and the next segment sees the gists alone (docs/decisions/0010).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from transformers.cache_utils import Cache

from gistbench.core.cache import ContextCache
from gistbench.core.layout import GistLayout
from gistbench.models.cache import collected, collecting_cache


def read_prefix(
    model: torch.nn.Module,
    ids: torch.Tensor,
    layout: GistLayout,
    *,
    chunk_tokens: int | None = None,
    memory: ContextCache | None = None,
) -> Cache:
    """Feed a prefix to a model, in one pass or in chunks.

    Args:
        model: A causal language model with the gist attention.
        ids: ``(batch, slots)``, all of the prefix behind the memory.
        layout: The batch's spans, stage "prefix".
        chunk_tokens: Slots of a pass at most; None for one pass.
        memory: What earlier segments left, for a layout with memory.

    Returns:
        What `collected` takes.
    """
    device, num_slots = ids.device, ids.shape[1]
    step = num_slots if chunk_tokens is None else min(chunk_tokens, num_slots)
    chunked = step < num_slots
    if chunked or memory is not None:
        layout = layout.at("chunk")
    config: Any = model.config
    cache = collecting_cache(layout, config.num_hidden_layers, chunked=chunked, memory=memory)
    positions = layout.prefix_positions(device)[:, layout.prefix_length - num_slots :]
    # A prefix of no slots is a pass of its own: it leaves a cache of no slots.
    for start in range(0, max(num_slots, 1), max(step, 1)):
        chunk = slice(start, start + step)
        model(
            input_ids=ids[:, chunk],
            position_ids=positions[:, chunk],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            layout=layout,
        )
    return cache


def segment_lengths(num_tokens: int, segment_tokens: int) -> list[int]:
    """Tokens of each segment: as few segments as can be, and as equal as can be.

    A last segment of a few tokens would be written by gists that have hardly anything to read.
    """
    number = max(1, -(-num_tokens // segment_tokens))
    ends = [num_tokens * part // number for part in range(number + 1)]
    return [end - start for start, end in pairwise(ends)]


@torch.inference_mode()
def read_in_segments(
    model: torch.nn.Module,
    context: Sequence[int],
    *,
    gist_ids: Sequence[int],
    segment_tokens: int,
    segmented: bool = False,
    chunk_tokens: int | None = None,
) -> ContextCache:
    """Read one context segment by segment, and keep the gists of all of them.

    A segment's tokens and gists see the gists of the segments before it and their own segment.
    Positions go on as if all of it had been one text, gists included. One segment is an ordinary
    read.

    Args:
        model: A causal language model with the gist attention.
        context: Token ids.
        gist_ids: Ids of the gist tokens, appended to every segment.
        segment_tokens: Context tokens of a segment at most.
        segmented: Each gist reads its own part of its segment; see `GistLayout`.
        chunk_tokens: Slots of a pass at most, within each segment.

    Returns:
        A cache of ``len(gist_ids)`` slots for each segment.
    """
    device = next(model.parameters()).device
    memory: ContextCache | None = None
    start = 0
    for length in segment_lengths(len(context), segment_tokens):
        row = [*context[start : start + length], *gist_ids]
        start += length
        held: tuple[tuple[int, ...], ...] = ()
        if memory is not None:
            held = memory.layout.as_memory().memory
        layout = GistLayout(
            prefix_length=sum(map(len, held)) + len(row),
            num_visible=len(gist_ids),
            prefix_padding=(0,),
            suffix_padding=(0,),
            stage="prefix",
            segmented=segmented,
            memory=held,
        )
        ids = torch.tensor([row], dtype=torch.long, device=device)
        cache = read_prefix(model, ids, layout, chunk_tokens=chunk_tokens, memory=memory)
        memory = collected(cache, layout)
    assert memory is not None
    return memory
