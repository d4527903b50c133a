"""Claims about what a worker records of itself."""

from __future__ import annotations

from pathlib import Path

from gistbench.bench.job import Job
from gistbench.bench.recording import own_memory
from gistbench.records import NotMeasured, SteadyState


def test_memory_of_the_device_is_nobodys_where_arms_answered_at_once(tmp_path: Path) -> None:
    job = Job.model_construct(parallel_arms=3)
    held = SteadyState(
        contexts_held=1,
        context_tokens=160,
        cache_bytes=10,
        torch_allocated_bytes=20,
        torch_reserved_bytes=30,
        device_used_bytes=40,
    )
    shared = own_memory(job, held)
    assert isinstance(shared, SteadyState)
    assert isinstance(shared.device_used_bytes, NotMeasured)
    assert (shared.torch_allocated_bytes, shared.torch_reserved_bytes) == (20, 30)
    assert own_memory(Job.model_construct(parallel_arms=1), held) == held
