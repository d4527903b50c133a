"""Where memory figures come from: NVML, torch's allocator and the host. One read, five numbers.

Each source fails alone. The first failure becomes its reason for the rest of the run, and the
other sources go on.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from gistbench.measurement.nvml import NvmlDevice, cuda_index, cuda_uuid, describe
from gistbench.records import Count, NotMeasured

FIELDS = (
    "device_used_bytes",
    "process_used_bytes",
    "torch_allocated_bytes",
    "torch_reserved_bytes",
    "resident_bytes",
)
TORCH_FIELDS = ("torch_allocated_bytes", "torch_reserved_bytes")

ABSENT = {
    "device_used_bytes": "NVML gave no reading of the device",
    "process_used_bytes": (
        "NVML does not list this process (inside a container it sees the host's process ids)"
    ),
    "torch_allocated_bytes": "torch had not yet used the GPU",
    "torch_reserved_bytes": "torch had not yet used the GPU",
    "resident_bytes": "the operating system gave no reading of this process",
}
"""Why a source that works gave no number."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """Bytes at one moment; None where a source gave none."""

    device_used_bytes: int | None = None
    process_used_bytes: int | None = None
    torch_allocated_bytes: int | None = None
    torch_reserved_bytes: int | None = None
    resident_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Bytes at one moment, each a number or the reason why it is missing."""

    device_used_bytes: Count
    process_used_bytes: Count
    torch_allocated_bytes: Count
    torch_reserved_bytes: Count
    resident_bytes: Count


class MemorySources:
    """The open sources of one process on one device.

    Attributes:
        reasons: Field name -> why it is not measured, for the sources that do not work.
    """

    def __init__(self, device: str, torch: ModuleType | None = None) -> None:
        """Open whatever exists here. Never raises.

        Args:
            device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
            torch: The torch module; imported when the device is a GPU and none is given.
        """
        self.reasons: dict[str, str] = {}
        self._device = device
        self._pid = os.getpid()
        self._nvml: NvmlDevice | None = None
        self._torch = self._try(FIELDS[:4], "torch", lambda: self._open_torch(torch))
        if self._torch is not None:
            self._try(FIELDS[:2], "NVML", self._open_nvml)
        self._process: Any = self._try(("resident_bytes",), "psutil", self._open_process)

    @property
    def has_gpu(self) -> bool:
        """Whether any figure of a GPU can be read."""
        return self._torch is not None

    def read(self) -> Reading:
        """Every source once."""
        device = process = allocated = reserved = resident = None
        if (nvml := self._nvml) is not None:
            if "device_used_bytes" not in self.reasons:
                device = self._try(FIELDS[:1], "NVML", lambda: nvml.memory().used_bytes)
            if "process_used_bytes" not in self.reasons:
                process = self._try(FIELDS[1:2], "NVML", lambda: nvml.process_memory(self._pid))
        if torch := self._active_torch():
            # One call for both numbers: building the statistics is what costs.
            statistics = self._try(
                TORCH_FIELDS, "torch", lambda: torch.cuda.memory_stats(self._device)
            )
            if statistics is not None:
                allocated = int(statistics.get("allocated_bytes.all.current", 0))
                reserved = int(statistics.get("reserved_bytes.all.current", 0))
        if self._process is not None and "resident_bytes" not in self.reasons:
            resident = self._try(
                ("resident_bytes",), "psutil", lambda: int(self._process.memory_info().rss)
            )
        return Reading(device, process, allocated, reserved, resident)

    def reset_torch_peaks(self) -> None:
        """Start torch's own peak counting anew."""
        if torch := self._active_torch():
            self._try(
                TORCH_FIELDS, "torch", lambda: torch.cuda.reset_peak_memory_stats(self._device)
            )

    def torch_peaks(self) -> dict[str, int]:
        """Exact peaks since the last reset, empty where torch counts none."""
        if torch := self._active_torch():
            peaks = self._try(
                TORCH_FIELDS,
                "torch",
                lambda: (
                    int(torch.cuda.max_memory_allocated(self._device)),
                    int(torch.cuda.max_memory_reserved(self._device)),
                ),
            )
            if peaks is not None:
                return dict(zip(TORCH_FIELDS, peaks, strict=True))
        return {}

    def process_age_seconds(self) -> float:
        """Seconds since this process started, 0 where the operating system does not tell."""
        if self._process is None:
            return 0.0
        age = self._try((), "psutil", lambda: time.time() - float(self._process.create_time()))
        return max(0.0, age or 0.0)

    def close(self) -> None:
        """Release NVML."""
        if self._nvml is not None:
            self._nvml.close()

    def _active_torch(self) -> ModuleType | None:
        torch = self._torch
        if torch is None or TORCH_FIELDS[0] in self.reasons or not torch.cuda.is_initialized():
            return None
        return torch

    def _open_torch(self, torch: ModuleType | None) -> ModuleType | None:
        if self._device.partition(":")[0] != "cuda":
            where = "the CPU" if self._device == "cpu" else self._device
            self._no_gpu(f"the model runs on {where}")
            return None
        torch = torch or importlib.import_module("torch")
        if not torch.cuda.is_available():
            self._no_gpu("torch finds no usable CUDA device")
            return None
        # The current device belongs to a thread: fix it here for the thread that samples.
        self._device = f"cuda:{cuda_index(torch, self._device)}"
        return torch

    def _no_gpu(self, why: str) -> None:
        reason = f"no NVIDIA GPU in this run: {why}"
        self.reasons.update(dict.fromkeys(FIELDS[:4], reason))

    def _open_nvml(self) -> None:
        assert self._torch is not None
        opened = NvmlDevice.open(cuda_uuid(self._torch, self._device))
        if isinstance(opened, NotMeasured):
            self.reasons.update(dict.fromkeys(FIELDS[:2], opened.not_measured))
        else:
            self._nvml = opened

    def _open_process(self) -> Any:
        return importlib.import_module("psutil").Process(self._pid)

    def _try(self, fields: tuple[str, ...], source: str, read: Callable[[], T]) -> T | None:
        """Read, or note for these fields why it is no longer possible."""
        try:
            return read()
        except Exception as error:
            for field in fields:
                self.reasons.setdefault(field, f"{source} failed ({describe(error)})")
            return None
