"""Phases, ticks and the thread behind them."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from gistbench.measurement import sampler as sampler_module
from gistbench.measurement.sampler import MemorySampler

MIB = 2**20
NEVER = 3600.0
"""An interval that leaves only the forced ticks."""


def test_peak_of_torch_is_not_lost_between_ticks(machine):
    cuda = machine().cuda
    with MemorySampler("gist", "cuda", interval_seconds=NEVER) as sampler:
        with sampler.phase("compress"):
            cuda.allocate(300 * MIB)
            cuda.allocate(-300 * MIB)
        with sampler.phase("decode"):
            cuda.allocate(5 * MIB)
    compress, decode = sampler.phases()
    assert compress.torch_allocated_peak_bytes == 300 * MIB
    assert compress.torch_reserved_peak_bytes == 600 * MIB
    assert decode.torch_allocated_peak_bytes == 5 * MIB, "the peak was not reset"


def test_thread_sees_device_memory_between_the_ends_of_a_phase(machine, wait_until):
    gpu = machine().nvml.gpus[0]
    with (
        MemorySampler("gist", "cuda", interval_seconds=0.001) as sampler,
        sampler.phase("compress"),
    ):
        gpu.used = 900 * MIB
        wait_until(lambda: any(r.device_used_bytes == 900 * MIB for r in sampler.records()))
        gpu.used = 100 * MIB
    assert sampler.phases()[0].device_used_peak_bytes == 900 * MIB


def test_ends_of_a_phase_are_always_sampled(machine):
    gpu = machine().nvml.gpus[0]
    with MemorySampler("gist", "cuda", interval_seconds=NEVER) as sampler, sampler.phase("load"):
        gpu.used = 700 * MIB
    assert [r.device_used_bytes for r in sampler.records()] == [100 * MIB, 700 * MIB]
    assert sampler.phases()[0].device_used_peak_bytes == 700 * MIB


def test_occurrences_of_a_phase_are_merged(machine, monkeypatch):
    cuda = machine().cuda
    clock = itertools.count()
    monkeypatch.setattr(sampler_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with MemorySampler("gist", "cuda", interval_seconds=NEVER) as sampler:
        for size in (3, 9, 4):
            with sampler.phase("compress"):
                cuda.allocate(size * MIB)
                cuda.allocate(-size * MIB)
            with sampler.phase("decode"):
                pass
    assert [record.phase for record in sampler.phases()] == ["compress", "decode"]
    assert sampler.phases()[0].torch_allocated_peak_bytes == 9 * MIB
    assert sampler.phases()[0].seconds == 3, "one by this clock for each occurrence"


def test_phases_do_not_nest(machine):
    machine()
    with (
        MemorySampler("gist", "cuda", interval_seconds=NEVER) as sampler,
        pytest.raises(RuntimeError, match="inside phase 'load'"),
        sampler.phase("load"),
        sampler.phase("decode"),
    ):
        pass
    assert [record.phase for record in sampler.phases()] == ["load"]


def test_phase_that_raises_is_still_recorded(machine):
    cuda = machine().cuda
    with (
        MemorySampler("gist", "cuda", interval_seconds=NEVER) as sampler,
        pytest.raises(MemoryError),
        sampler.phase("compress"),
    ):
        cuda.allocate(MIB)
        raise MemoryError
    assert sampler.phases()[0].torch_allocated_peak_bytes == MIB


def test_sampler_stops_and_joins_its_thread_and_releases_nvml(machine, sampling_threads):
    nvml = machine().nvml
    with MemorySampler("gist", "cuda") as sampler:
        assert len(sampling_threads()) == 1
        assert sampling_threads()[0].daemon
    assert sampling_threads() == []
    assert nvml.started == 0
    with pytest.raises(RuntimeError), sampler.phase("load"):
        pass


def test_ticks_name_their_phase_and_never_go_back_in_time(machine):
    machine()
    with MemorySampler("gist", "cuda", interval_seconds=NEVER) as sampler:
        for name in ("load", "compress", "decode"):
            with sampler.phase(name):
                pass
    records = sampler.records()
    assert [record.phase for record in records] == [
        *("load", "load", "compress", "compress", "decode", "decode")
    ]
    assert all(record.arm == "gist" for record in records)
    assert [r.seconds for r in records] == sorted(r.seconds for r in records)


def test_a_long_run_holds_a_bounded_number_of_ticks(machine):
    gpu = machine().nvml.gpus[0]
    with MemorySampler("gist", "cuda", interval_seconds=NEVER, max_records=20) as sampler:
        for number in range(500):
            gpu.used = 999 * MIB if number == 100 else 100 * MIB
            with sampler.phase("compress"):
                pass
        assert len(sampler._ticks) <= 80
    assert len(sampler.records()) <= 20
    assert max(record.device_used_bytes or 0 for record in sampler.records()) == 999 * MIB


@pytest.mark.gpu
def test_allocation_shows_in_torch_and_on_the_device():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    torch.zeros(1, device="cuda")
    torch.cuda.empty_cache()  # else the block could come from what is already reserved
    size = 256 * MIB
    with MemorySampler("full", "cuda") as sampler:
        before = sampler.snapshot()
        with sampler.phase("load"):
            block = torch.empty(size, dtype=torch.uint8, device="cuda")
        after = sampler.snapshot()
        del block
    record = sampler.phases()[0]
    for name in ("torch_allocated_bytes", "device_used_bytes"):
        assert getattr(after, name) - getattr(before, name) >= size
    assert record.torch_allocated_peak_bytes >= size
    assert record.torch_reserved_peak_bytes >= record.torch_allocated_peak_bytes
    assert record.device_used_peak_bytes > record.torch_reserved_peak_bytes
