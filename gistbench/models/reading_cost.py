"""What reading a context costs: seconds, and bytes at the peak."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gistbench.core.cache import ContextCache
from gistbench.core.footprint import Architecture
from gistbench.models.reading import read_in_segments, segment_lengths


@dataclass(frozen=True, slots=True)
class ReadingCost:
    """Of one read. Bytes are None on a CPU, where torch does not count them.

    Attributes:
        num_tokens: Of the context.
        seconds: Until the device had finished.
        peak_bytes: Most that torch had allocated.
        needed_bytes: What was allocated before, weights mostly, and the keys and values that the
            read holds by prediction. The rest of the peak are activations.
    """

    num_tokens: int
    seconds: float
    peak_bytes: int | None = None
    needed_bytes: int | None = None


def measured_read(
    model: torch.nn.Module,
    context: Sequence[int],
    *,
    gist_ids: Sequence[int],
    segmented: bool = False,
    segment_tokens: int | None = None,
    chunk_tokens: int | None = None,
) -> tuple[ContextCache, ReadingCost]:
    """`read_in_segments`, or one read where `segment_tokens` is None, and its cost.

    Args:
        model: A causal language model with the gist attention.
        context: Token ids; random ones cost the same.
        gist_ids: Ids of the gist tokens.
        segmented: Each gist reads its own part of what is read; see `GistLayout`.
        segment_tokens: Context tokens of a segment at most.
        chunk_tokens: Slots of a pass at most.
    """
    device = next(model.parameters()).device
    on_cuda = device.type == "cuda"
    before = 0
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    most = segment_tokens or max(1, len(context))
    if on_cuda:
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    cache = read_in_segments(
        model,
        context,
        gist_ids=gist_ids,
        segment_tokens=most,
        segmented=segmented,
        chunk_tokens=chunk_tokens,
    )
    if on_cuda:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    if not on_cuda:
        return cache, ReadingCost(len(context), seconds)
    config: Any = model.config
    held = Architecture.of(config.to_dict()).reading_bytes(
        str(cache.keys[0].dtype).removeprefix("torch."),
        segment_lengths(len(context), most),
        len(gist_ids),
        chunk_tokens=chunk_tokens,
    )
    peak = torch.cuda.max_memory_allocated(device)
    return cache, ReadingCost(len(context), seconds, peak, before + held)
