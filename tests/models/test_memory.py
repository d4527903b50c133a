"""Claims about what counts as a GPU without room."""

import torch

from gistbench.models.memory import OUT_OF_MEMORY, is_out_of_memory


def test_cudas_own_error_counts_only_where_it_is_about_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("tried to allocate 2 GiB"))
    assert is_out_of_memory(torch.AcceleratorError("CUDA error: out of memory"))
    other = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    assert isinstance(other, OUT_OF_MEMORY) and not is_out_of_memory(other)
    assert not is_out_of_memory(RuntimeError("out of memory"))
