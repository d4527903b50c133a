"""Which 4-bit weights bitsandbytes unpacks before it multiplies, found out on the device."""

from __future__ import annotations

from typing import Any, cast

import torch


@torch.inference_mode()
def unpacked_parameters(model: torch.nn.Module, num_tokens: int) -> int | None:
    """Weights that a pass of so many tokens writes in the dtype of the computation, and reads back.

    bitsandbytes reads packed weights in kernels of its own where tokens are few. Which layer goes
    which way depends on its version, the GPU, the shape and the tokens, so a layer of each shape
    is tried: what is unpacked shows in the allocator's peak.

    Args:
        model: Without 4-bit layers, the answer is 0 on a GPU.
        num_tokens: Of the whole batch, in one pass.

    Returns:
        None on a CPU, where no peak is kept: it is not counted there.
    """
    if not on_a_gpu(model):
        return None
    from bitsandbytes.nn.modules import Linear4bit

    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    one_of_each = {(layer.out_features, layer.in_features): layer for layer in layers}
    unpacked = {shape: unpacks(layer, num_tokens) for shape, layer in one_of_each.items()}
    return sum(
        layer.out_features * layer.in_features
        for layer in layers
        if unpacked[layer.out_features, layer.in_features]
    )


def on_a_gpu(model: torch.nn.Module) -> bool:
    """Whether the allocator counts what a pass of this model takes."""
    return next(model.parameters()).device.type == "cuda"


def unpacks(layer: torch.nn.Module, num_tokens: int) -> bool:
    """Whether a 4-bit layer on a GPU holds its whole weight unpacked while it multiplies."""
    given = cast(Any, layer)
    device, dtype = given.weight.device, given.compute_dtype
    row = torch.zeros(num_tokens, given.in_features, dtype=dtype, device=device)
    layer(row)  # libraries keep what they allocate at a first call
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    output = layer(row)
    peak = torch.cuda.max_memory_allocated(device)
    unpacked_bytes = given.out_features * given.in_features * row.element_size()
    return bool(peak - before - output.nbytes >= unpacked_bytes)
