"""Finding a GPU and reading it, or saying why not."""

from __future__ import annotations

import sys

import pytest

from gistbench.measurement.nvml import NvmlDevice, cuda_uuid
from gistbench.records import NotMeasured

PID = 4321


def opened(uuid: str | None) -> NvmlDevice:
    device = NvmlDevice.open(uuid)
    assert isinstance(device, NvmlDevice)
    return device


def test_maps_by_uuid_when_the_indices_differ(machine):
    both = machine(nvml=("GPU-a", "GPU-b"), torch=("b", "a"))
    both.nvml.gpus[0].used, both.nvml.gpus[1].used = 1, 2
    assert opened(cuda_uuid(both.torch, "cuda:0")).memory().used_bytes == 2
    assert opened(cuda_uuid(both.torch, "cuda:1")).memory().used_bytes == 1


@pytest.mark.parametrize("given", ["abc", "GPU-abc"])
def test_uuid_is_found_with_or_without_its_prefix(machine, given):
    machine(nvml=("GPU-abc",))
    assert opened(given).memory().total_bytes > 0


def test_mig_instance_is_found_by_its_own_uuid(machine):
    instance = machine(nvml=("GPU-abc", "MIG-def"))
    instance.nvml.gpus[1].total = 7
    assert opened("def").memory().total_bytes == 7


def test_without_uuid_the_only_gpu_is_taken(machine):
    machine(nvml=("GPU-a",))
    assert opened(None).memory().total_bytes > 0


def test_without_uuid_several_gpus_are_refused_with_the_reason(machine):
    shared = machine(nvml=("GPU-a", "GPU-b"))
    device = NvmlDevice.open(None)
    assert isinstance(device, NotMeasured)
    assert "2 GPUs" in device.not_measured
    assert shared.nvml.started == 0


def test_unknown_uuid_is_a_reason_and_releases_nvml(machine):
    other = machine(nvml=("GPU-a",))
    device = NvmlDevice.open("elsewhere")
    assert isinstance(device, NotMeasured)
    assert "does not show the GPU" in device.not_measured
    assert other.nvml.started == 0


def test_missing_package_is_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    device = NvmlDevice.open("a")
    assert isinstance(device, NotMeasured)
    assert "nvidia-ml-py" in device.not_measured


def test_missing_driver_is_a_reason(machine, monkeypatch):
    def fail() -> None:
        raise OSError("library not found")

    monkeypatch.setattr(machine().nvml, "nvmlInit", fail)
    device = NvmlDevice.open("a")
    assert isinstance(device, NotMeasured)
    assert "could not start (OSError: library not found)" in device.not_measured


@pytest.mark.parametrize("processes", [[], [(99, 5)], [(PID, None)], [(PID, 2**64 - 1)]])
def test_missing_process_memory_is_none_not_zero(machine, processes):
    machine().nvml.gpus[0].processes = processes
    assert opened("a").process_memory(PID) is None


def test_process_memory_is_that_of_the_asked_process(machine):
    machine().nvml.gpus[0].processes = [(99, 5), (PID, 7)]
    assert opened("a").process_memory(PID) == 7


def test_energy_is_in_joules_and_a_device_without_a_counter_raises(machine):
    fake = machine()
    assert opened("a").energy_joules() == 2.5
    fake.nvml.failing = True
    with pytest.raises(Exception, match="Not Supported"):
        opened("a").energy_joules()


def test_closing_twice_releases_nvml_once(machine):
    nvml = machine().nvml
    device = opened("a")
    assert nvml.started == 1
    device.close()
    device.close()
    assert nvml.started == 0
