"""Memory and energy of one device as a budget counts them: from before CUDA is there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Self

import torch

from gistbench.measurement import NvmlDevice, synchronize
from gistbench.measurement.nvml import cuda_index, cuda_uuid, describe
from gistbench.records import Count, NotMeasured, Quantity

NO_GPU = NotMeasured(
    not_measured="no NVIDIA GPU in this run: device memory and energy are measured on one only"
)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at one moment, or since the last `Meter.start`, each a number or why there is none."""

    allocated: Count
    reserved: Count
    device: Count


class Meter:
    """Opened before anything else uses the device.

    NVML's figure of this process counts where there is one. In a container there is none; then the
    growth of the whole device since the meter was opened counts, CUDA's own memory included, and
    whatever other processes did meanwhile.
    """

    def __init__(
        self, device: str, nvml: NvmlDevice | NotMeasured, *, is_late: bool = False
    ) -> None:
        self.device = device
        self._nvml = nvml
        self._is_late = is_late
        self._baseline = 0 if isinstance(nvml, NotMeasured) else nvml.memory().used_bytes

    @classmethod
    def open(cls, device: str) -> Self:
        """Find the device; asking torch for its UUID makes no CUDA context."""
        if not device.startswith("cuda"):
            return cls(device, NO_GPU)
        found = NvmlDevice.open(cuda_uuid(torch, device))
        has_context: Any = getattr(torch._C, "_cuda_hasPrimaryContext")  # noqa: B009
        is_late = bool(has_context(cuda_index(torch, device)))
        return cls(device, found, is_late=is_late)

    def close(self) -> None:
        """Release NVML."""
        if isinstance(self._nvml, NvmlDevice):
            self._nvml.close()

    @property
    def counts(self) -> str:
        """What `device` bytes are, in words."""
        if isinstance(self._nvml, NotMeasured):
            return f"not at all: {self._nvml.not_measured}"
        if self._of_process() is not None:
            return "NVML's figure of this process, CUDA's own memory included"
        own = (
            "since this process began to measure, CUDA's own memory LEFT OUT"
            if self._is_late
            else "since before this process used it, CUDA's own memory included"
        )
        return f"the growth of NVML's figure of the device {own} (it lists no processes here)"

    def used(self) -> Count:
        """Bytes that this process holds on the device now."""
        if isinstance(self._nvml, NotMeasured):
            return self._nvml
        synchronize(self.device)
        try:
            own = self._of_process()
            return self._nvml.memory().used_bytes - self._baseline if own is None else own
        except Exception as error:
            return NotMeasured(not_measured=f"NVML failed ({describe(error)})")

    def available(self) -> Count:
        """Bytes that this process could hold: its own, and those that are free."""
        used = self.used()
        if isinstance(used, NotMeasured):
            return used
        return used + int(torch.cuda.mem_get_info(self.device)[0])

    def start(self) -> None:
        """Count peaks from here on, caches of the allocator given back."""
        if self.device.startswith("cuda"):
            synchronize(self.device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> Memory:
        """Peaks since `start`. The device's is its figure now: nothing was given back since."""
        if not self.device.startswith("cuda"):
            return Memory(NO_GPU, NO_GPU, NO_GPU)
        synchronize(self.device)
        return Memory(
            torch.cuda.max_memory_allocated(self.device),
            torch.cuda.max_memory_reserved(self.device),
            self.used(),
        )

    def allocated(self) -> Count:
        """Bytes that torch has allocated now."""
        if not self.device.startswith("cuda"):
            return NO_GPU
        return torch.cuda.memory_allocated(self.device)

    def joules(self) -> Quantity:
        """The device's energy counter, once its queue is empty."""
        if isinstance(self._nvml, NotMeasured):
            return self._nvml
        synchronize(self.device)
        try:
            return self._nvml.energy_joules()
        except Exception as error:
            return NotMeasured(not_measured=f"the device counts no energy ({describe(error)})")

    def cap(self, limit_bytes: int | None) -> None:
        """Let torch have no more than makes up a limit, so that it reuses what it holds first.

        As on a card of that size: torch gives cached blocks back before it gives up.

        Args:
            limit_bytes: Of the device, what is not torch's included; None takes the limit away.
        """
        if not self.device.startswith("cuda"):
            return
        total = torch.cuda.get_device_properties(self.device).total_memory
        share = 1.0
        used = self.used()
        if limit_bytes is not None and not isinstance(used, NotMeasured):
            others = used - torch.cuda.memory_reserved(self.device)
            share = min(1.0, max(0.0, (limit_bytes - others) / total))
        torch.cuda.set_per_process_memory_fraction(share, self.device)

    def _of_process(self) -> int | None:
        if isinstance(self._nvml, NotMeasured):
            return None
        try:
            return self._nvml.process_memory(os.getpid())
        except Exception:
            return None
