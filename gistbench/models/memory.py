"""What a GPU without room says."""

from __future__ import annotations

import torch

OUT_OF_MEMORY = (torch.OutOfMemoryError, torch.AcceleratorError)
"""Torch's own; and CUDA's, for instance where another process took what was left."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of these kinds is about memory; CUDA's can be about anything."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, torch.AcceleratorError) and "out of memory" in str(error)
    )


def began_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error is about memory, or was raised while such a one was handled.

    A graph whose capture runs out of memory may end with an error of its own.
    """
    while error is not None:
        if is_out_of_memory(error):
            return True
        error = error.__context__
    return False
