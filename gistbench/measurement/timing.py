"""Seconds of device work: the clock is read only when the device has finished."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


def synchronize(device: str) -> None:
    """Wait until the device has done all work queued so far.

    Args:
        device: ``"cuda"``, ``"cuda:N"``, or anything else, which has no queue to wait for.
    """
    if device.partition(":")[0] == "cuda":
        import torch

        torch.cuda.synchronize(device)


class Stopwatch:
    """The time of one `timed` block."""

    def __init__(self) -> None:
        self._seconds: float | None = None

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the block.

        Raises:
            RuntimeError: The block has not ended, or ended with an exception.
        """
        if self._seconds is None:
            raise RuntimeError("a timed block has no seconds before it ends without an exception")
        return self._seconds


@contextmanager
def timed(device: str) -> Iterator[Stopwatch]:
    """Time a block, waiting for the device before and after.

    Example::

        with timed("cuda") as watch:
            model(tokens)
        print(watch.seconds)

    Warm-up is the caller's: the first call of a kernel also compiles and allocates.
    """
    watch = Stopwatch()
    synchronize(device)
    start = time.perf_counter()
    yield watch
    synchronize(device)
    watch._seconds = time.perf_counter() - start
