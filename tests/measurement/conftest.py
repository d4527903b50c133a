"""Stand-ins for NVML and torch, so that GPU code paths run where no GPU is."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

MIB = 2**20


class FakeNvmlError(Exception):
    """What the driver raises."""


@dataclass
class FakeGpu:
    uuid: str
    used: int = 100 * MIB
    total: int = 1000 * MIB
    processes: list[tuple[int, int | None]] = field(default_factory=list)
    millijoules: int = 2500


class FakeNvml:
    """The part of `pynvml` that is used; `failing` makes its readings raise."""

    def __init__(self, *gpus: FakeGpu) -> None:
        self.gpus = gpus
        self.failing = False
        self.started = 0

    def nvmlInit(self) -> None:
        self.started += 1

    def nvmlShutdown(self) -> None:
        self.started -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:
        for gpu in self.gpus:
            if gpu.uuid == uuid:
                return gpu
        raise FakeNvmlError("Not Found")

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> Any:
        if self.failing:
            raise FakeNvmlError("GPU is lost")
        return SimpleNamespace(used=gpu.used, total=gpu.total, free=gpu.total - gpu.used)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in gpu.processes]

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu) -> int:
        if self.failing:
            raise FakeNvmlError("Not Supported")
        return gpu.millijoules

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"600.1"

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> str:
        return "Fake GPU"


class FakeCuda:
    """torch.cuda with an allocator that counts its own peak."""

    def __init__(self, uuids: tuple[str, ...]) -> None:
        self.uuids = uuids
        self.allocated = self.peak = 0
        self.initialized = True
        self.synchronized: list[str] = []

    def allocate(self, size: int) -> None:
        self.allocated += size
        self.peak = max(self.peak, self.allocated)

    def is_available(self) -> bool:
        return bool(self.uuids)

    def is_initialized(self) -> bool:
        return self.initialized

    def current_device(self) -> int:
        return 0

    def get_device_properties(self, index: int) -> Any:
        return SimpleNamespace(uuid=self.uuids[index], name="Fake GPU", total_memory=1000 * MIB)

    def memory_stats(self, device: str) -> dict[str, int]:
        return {
            "allocated_bytes.all.current": self.allocated,
            "reserved_bytes.all.current": 2 * self.allocated,
        }

    def reset_peak_memory_stats(self, device: str) -> None:
        self.peak = self.allocated

    def max_memory_allocated(self, device: str) -> int:
        return self.peak

    def max_memory_reserved(self, device: str) -> int:
        return 2 * self.peak

    def synchronize(self, device: str) -> None:
        self.synchronized.append(device)


class FakeTorch(SimpleNamespace):
    """The part of `torch` that is used."""

    def __init__(self, *uuids: str) -> None:
        super().__init__(cuda=FakeCuda(uuids), version=SimpleNamespace(cuda="13.0"))


@dataclass
class Machine:
    """A machine with fake GPUs: NVML numbers them one way, torch another."""

    nvml: FakeNvml
    torch: FakeTorch

    @property
    def cuda(self) -> FakeCuda:
        return self.torch.cuda


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    """Build and install a machine: UUIDs in NVML's order, then in torch's (default: the same)."""

    def build(nvml: tuple[str, ...] = ("GPU-a",), torch: tuple[str, ...] | None = None) -> Machine:
        seen = nvml if torch is None else torch
        built = Machine(FakeNvml(*map(FakeGpu, nvml)), FakeTorch(*seen))
        monkeypatch.setitem(sys.modules, "pynvml", built.nvml)
        monkeypatch.setitem(sys.modules, "torch", built.torch)
        return built

    return build


@pytest.fixture
def sampling_threads() -> Callable[[], list[threading.Thread]]:
    """The sampling threads that are alive."""
    return lambda: [thread for thread in threading.enumerate() if thread.name == "memory-sampler"]


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Wait for the sampling thread; the limit only turns a hang into a failure."""

    def wait(condition: Callable[[], bool]) -> None:
        pause = threading.Event()
        for _ in range(5000):
            if condition():
                return
            pause.wait(0.002)
        raise AssertionError("the sampling thread did not get there")

    return wait
