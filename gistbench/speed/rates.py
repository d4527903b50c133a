"""What the device does at best: a matrix product and a copy, in the process that is measured."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gistbench.measurement import timed
from gistbench.speed.records import Rates

MATRIX_SIZE = {"cuda": 8192, "cpu": 512}
COPY_BYTES = {"cuda": 2 * 2**30, "cpu": 64 * 2**20}
REPEATS, ATTEMPTS = 10, 5


def measure_rates(device: str, dtype: torch.dtype) -> Rates:
    """Time both, and let go of their memory.

    Of several attempts the fastest counts: a floor that the device undercut would be none.

    Args:
        device: A torch device.
        dtype: Of the matrices.
    """
    kind = torch.device(device).type
    size, num_bytes = MATRIX_SIZE[kind], COPY_BYTES[kind]
    with torch.inference_mode():
        product_seconds = _product_seconds(size, device, dtype)
        copy_seconds = _copy_seconds(num_bytes, device)
    if kind == "cuda":
        torch.cuda.empty_cache()
    return Rates(
        matrix_operations_per_second=2 * size**3 / product_seconds,
        matrix_size=size,
        matrix_dtype=str(dtype).removeprefix("torch."),
        copy_bytes_per_second=2 * num_bytes / copy_seconds,
        copy_bytes=num_bytes,
    )


def _product_seconds(size: int, device: str, dtype: torch.dtype) -> float:
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    product = torch.empty(size, size, device=device, dtype=dtype)
    return _best(lambda: torch.mm(left, right, out=product), device)


def _copy_seconds(num_bytes: int, device: str) -> float:
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return _best(lambda: target.copy_(source), device)


def _best(work: Callable[[], object], device: str) -> float:
    """Seconds of one call: the fastest of several series."""
    seconds = []
    for _ in range(ATTEMPTS + 1):
        with timed(device) as watch:
            for _ in range(REPEATS):
                work()
        seconds.append(watch.seconds / REPEATS)
    return min(seconds[1:])
