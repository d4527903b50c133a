"""A figure that cannot be had is a reason, and takes no other figure with it."""

from __future__ import annotations

import threading

from gistbench.measurement.sampler import MemorySampler
from gistbench.measurement.sources import MemorySources
from gistbench.records import NotMeasured

MIB = 2**20
NEVER = 3600.0
"""An interval that leaves only the forced ticks."""


def reason(value: object) -> str:
    assert isinstance(value, NotMeasured)
    return value.not_measured


def test_process_that_nvml_does_not_list_is_not_measured_rather_than_zero(machine):
    machine().nvml.gpus[0].processes = [(1, 5)]
    with MemorySampler("gist", "cuda", interval_seconds=NEVER) as sampler, sampler.phase("load"):
        pass
    assert "does not list this process" in reason(sampler.phases()[0].process_used_peak_bytes)
    assert sampler.records()[0].process_used_bytes is None


def test_nvml_that_fails_leaves_a_reason_and_the_other_sources(machine):
    fake = machine()
    with MemorySampler("gist", "cuda", interval_seconds=NEVER) as sampler:
        with sampler.phase("load"):
            fake.cuda.allocate(MIB)
        with sampler.phase("compress"):
            fake.nvml.failing = True
        with sampler.phase("load"):
            pass
    load, compress = sampler.phases()
    for record in (load, compress):
        assert "NVML failed (FakeNvmlError: GPU is lost)" in reason(record.device_used_peak_bytes)
        assert record.torch_allocated_peak_bytes == MIB
        assert isinstance(record.resident_peak_bytes, int)


def test_gpu_unknown_to_nvml_keeps_the_figures_of_torch(machine):
    cuda = machine(nvml=("GPU-a",), torch=("elsewhere",)).cuda
    with MemorySampler("gist", "cuda", interval_seconds=NEVER) as sampler, sampler.phase("load"):
        cuda.allocate(MIB)
    assert "does not show the GPU" in reason(sampler.phases()[0].device_used_peak_bytes)
    assert sampler.phases()[0].torch_allocated_peak_bytes == MIB


def test_torch_that_never_touched_the_gpu_is_not_measured(machine):
    machine().cuda.initialized = False
    with MemorySampler("gist", "cuda", interval_seconds=NEVER) as sampler, sampler.phase("load"):
        pass
    assert "not yet used the GPU" in reason(sampler.phases()[0].torch_allocated_peak_bytes)


def test_error_in_the_thread_becomes_the_reason(machine, monkeypatch, sampling_threads, wait_until):
    cuda = machine().cuda
    healthy = MemorySources.read

    def read(self: MemorySources) -> object:
        if threading.current_thread().name == "memory-sampler":
            raise ValueError("broken reading")
        return healthy(self)

    monkeypatch.setattr(MemorySources, "read", read)
    with (
        MemorySampler("gist", "cuda", interval_seconds=0.001) as sampler,
        sampler.phase("compress"),
    ):
        cuda.allocate(MIB)
        wait_until(lambda: not sampling_threads())
    record = sampler.phases()[0]
    assert "sampler stopped: ValueError: broken reading" in reason(record.device_used_peak_bytes)
    assert "broken reading" in reason(record.resident_peak_bytes)
    assert record.torch_allocated_peak_bytes == MIB, "torch counts its own peak"


def test_without_gpu_the_reason_is_given_and_host_memory_is_measured():
    with MemorySampler("full", "cpu") as sampler, sampler.phase("steady"):
        now = sampler.snapshot()
    record = sampler.phases()[0]
    for value in (
        record.device_used_peak_bytes,
        record.process_used_peak_bytes,
        record.torch_allocated_peak_bytes,
        record.torch_reserved_peak_bytes,
        now.device_used_bytes,
    ):
        assert reason(value).startswith("no NVIDIA GPU in this run: ")
    assert isinstance(record.resident_peak_bytes, int) and record.resident_peak_bytes > MIB
    assert isinstance(now.resident_bytes, int) and now.resident_bytes > MIB


def test_cuda_without_a_usable_device_is_not_measured(machine):
    machine(nvml=(), torch=())
    sources = MemorySources("cuda")
    assert sources.reasons["device_used_bytes"].startswith("no NVIDIA GPU in this run: torch")
