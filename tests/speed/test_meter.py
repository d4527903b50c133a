"""A budget counts what this process holds, from before CUDA was there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import pytest

from gistbench.measurement.nvml import DeviceMemory
from gistbench.records import NotMeasured
from gistbench.speed.meter import Meter


@dataclass
class FakeNvml:
    """A device that others use too."""

    used: int = 700
    own: int | None = None
    joules: float = 3.0
    failing: bool = False
    pids: list[int] = field(default_factory=list)

    def memory(self) -> DeviceMemory:
        if self.failing:
            raise RuntimeError("GPU is lost")
        return DeviceMemory(self.used, 10_000)

    def process_memory(self, pid: int) -> int | None:
        self.pids.append(pid)
        return self.own

    def energy_joules(self) -> float:
        if self.failing:
            raise RuntimeError("Not Supported")
        return self.joules


def meter(nvml: FakeNvml, **options: Any) -> Meter:
    return Meter("cpu", nvml, **options)  # type: ignore[arg-type]


def test_the_growth_of_the_device_counts_where_nvml_lists_no_process() -> None:
    nvml = FakeNvml()
    found = meter(nvml)
    assert found.used() == 0
    nvml.used = 950
    assert found.used() == 250
    assert "growth of NVML's figure" in found.counts and "memory included" in found.counts


def test_the_figure_of_the_process_counts_where_there_is_one() -> None:
    nvml = FakeNvml(own=120)
    found = meter(nvml)
    nvml.used = 5000  # somebody else's
    assert found.used() == 120
    assert found.counts.startswith("NVML's figure of this process")
    assert set(nvml.pids) == {os.getpid()}


def test_a_meter_that_was_opened_too_late_says_what_it_leaves_out() -> None:
    assert "CUDA's own memory LEFT OUT" in meter(FakeNvml(), is_late=True).counts


def test_a_driver_that_fails_leaves_a_reason_and_no_zero() -> None:
    nvml = FakeNvml()
    found = meter(nvml)
    assert found.joules() == 3.0
    nvml.failing = True
    for value, said in ((found.used(), "GPU is lost"), (found.joules(), "Not Supported")):
        assert isinstance(value, NotMeasured) and said in value.not_measured


@pytest.mark.gpu
def test_cuda_s_own_memory_counts_and_a_cap_holds() -> None:
    import torch

    found = Meter.open("cuda:0")
    if "LEFT OUT" in found.counts:
        pytest.skip("CUDA is in use already: run this test alone")
    held = torch.zeros(2**28, device="cuda:0")
    used = found.used()
    assert isinstance(used, int) and used > held.numel() * 4
    found.cap(used + 2**26)
    with pytest.raises(torch.OutOfMemoryError):
        torch.zeros(2**28, device="cuda:0")
    found.cap(None)
    torch.zeros(2**28, device="cuda:0")
    found.close()
