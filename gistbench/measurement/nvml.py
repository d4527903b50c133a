"""A thin typed reader of one GPU through NVML.

NVML's device figure holds everything on the device: every process, the CUDA context and what the
caching allocator reserves. It is never comparable with `torch.cuda.max_memory_allocated`.

CUDA and NVML may number the same GPUs differently (`CUDA_VISIBLE_DEVICES` reorders one and not the
other), so a device is found by its UUID.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Self

from gistbench.records import NotMeasured

_NOT_AVAILABLE = 2**64 - 1
"""NVML_VALUE_NOT_AVAILABLE as an unsigned 64-bit number, which some bindings pass through."""


def describe(error: BaseException) -> str:
    """An error as one line for a `NotMeasured` reason."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def cuda_index(torch: ModuleType, device: str) -> int:
    """The CUDA index, as torch counts, of ``"cuda"`` (the current device) or ``"cuda:N"``."""
    _, _, index = device.partition(":")
    return int(index) if index else int(torch.cuda.current_device())


def cuda_uuid(torch: ModuleType, device: str) -> str | None:
    """The UUID that torch gives for a device, or None where this torch gives none."""
    properties = torch.cuda.get_device_properties(cuda_index(torch, device))
    uuid = getattr(properties, "uuid", None)
    return None if uuid is None else str(uuid)


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes of a whole device, all processes together.

    Attributes:
        used_bytes: Total less free: every process, CUDA contexts, and what the driver keeps.
        total_bytes: Installed memory, or the share of a MIG instance.
    """

    used_bytes: int
    total_bytes: int


class NvmlDevice:
    """One open GPU (or MIG instance). Create it with `open`, close it when done."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library = library
        self._handle = handle
        self._closed = False

    @classmethod
    def open(cls, uuid: str | None) -> Self | NotMeasured:
        """Find a GPU by UUID.

        Args:
            uuid: As torch gives it, with or without the ``GPU-`` or ``MIG-`` prefix. None stands
                for the only GPU of the machine, and is refused where there are several.

        Returns:
            The device, or the reason why NVML cannot show it. Never raises.
        """
        try:
            library: Any = importlib.import_module("pynvml")
        except ImportError:
            return NotMeasured(
                not_measured="the Python package nvidia-ml-py, which reads NVML, is not installed"
            )
        try:
            library.nvmlInit()
        except Exception as error:
            return NotMeasured(
                not_measured=f"NVML, part of NVIDIA's driver, could not start ({describe(error)})"
            )
        found = _find(library, uuid)
        if isinstance(found, NotMeasured):
            _shut_down(library)
            return found
        return cls(library, found)

    def memory(self) -> DeviceMemory:
        """Used and total bytes of the device now.

        Raises:
            NVMLError: The driver no longer answers.
        """
        info = self._library.nvmlDeviceGetMemoryInfo(self._handle)
        return DeviceMemory(used_bytes=int(info.used), total_bytes=int(info.total))

    def process_memory(self, pid: int) -> int | None:
        """Bytes that one process holds on the device, its CUDA context included.

        Args:
            pid: As this process sees it. A container's numbers differ from the host's that NVML
                reports; no mapping between them is attempted.

        Returns:
            None, never 0, where NVML lists no such process or does not know its memory.

        Raises:
            NVMLError: The driver no longer answers.
        """
        for process in self._library.nvmlDeviceGetComputeRunningProcesses(self._handle):
            if process.pid == pid:
                used = process.usedGpuMemory
                return None if used is None or used == _NOT_AVAILABLE or used <= 0 else int(used)
        return None

    def energy_joules(self) -> float:
        """Energy that the device has used since its driver was loaded, all processes together.

        Raises:
            NVMLError: The device has no such counter (before Volta, and MIG instances).
        """
        return float(self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000

    def name(self) -> str | None:
        """The product name, or None where NVML does not tell."""
        return self._text("nvmlDeviceGetName", self._handle)

    def driver_version(self) -> str | None:
        """The version of the NVIDIA driver, or None where NVML does not tell."""
        return self._text("nvmlSystemGetDriverVersion")

    def close(self) -> None:
        """Release NVML. Closing twice does nothing."""
        if not self._closed:
            self._closed = True
            _shut_down(self._library)

    def _text(self, function: str, *arguments: Any) -> str | None:
        try:
            text = getattr(self._library, function)(*arguments)
        except Exception:
            return None
        return text.decode() if isinstance(text, bytes) else str(text)


def _find(library: Any, uuid: str | None) -> Any:
    """The NVML handle of a UUID, or `NotMeasured`."""
    if uuid is None:
        try:
            count = int(library.nvmlDeviceGetCount())
            if count == 1:
                return library.nvmlDeviceGetHandleByIndex(0)
        except Exception as error:
            return NotMeasured(not_measured=f"NVML lists no usable GPU ({describe(error)})")
        return NotMeasured(
            not_measured=f"NVML lists {count} GPUs and torch gives no UUID to tell them apart"
        )
    bare = uuid.removeprefix("GPU-").removeprefix("MIG-")
    reason = ""
    for candidate in dict.fromkeys((uuid, f"GPU-{bare}", f"MIG-{bare}")):
        try:
            return library.nvmlDeviceGetHandleByUUID(candidate)
        except Exception as error:
            reason = reason or describe(error)
    return NotMeasured(
        not_measured=f"NVML does not show the GPU (or MIG instance) that torch uses ({reason})"
    )


def _shut_down(library: Any) -> None:
    # Nothing is left to measure, so a driver that fails to say goodbye changes no number.
    try:
        library.nvmlShutdown()
    except Exception:
        return
