"""A thread that samples memory while the main thread works, and the phases it samples."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, TracebackType
from typing import Self

from gistbench.measurement.nvml import describe
from gistbench.measurement.sources import FIELDS, TORCH_FIELDS, MemorySources, Snapshot
from gistbench.measurement.thinning import Tick, thin
from gistbench.measurement.timing import synchronize
from gistbench.measurement.totals import PhaseTotals, present, snapshot
from gistbench.records import MemoryRecord, Phase, PhaseRecord

GPU_INTERVAL_SECONDS = 0.02
HOST_INTERVAL_SECONDS = 0.2
_CROWDED = 4
"""Ticks held in memory, in multiples of what is returned, before the held ones are thinned."""


class MemorySampler:
    """Samples device, torch and host memory of this process, phase by phase.

    Example::

        with MemorySampler("gist", "cuda") as sampler:
            with sampler.phase("load"):
                model = load()
            for batch in batches:
                with sampler.phase("compress"):
                    compress(batch)
        sampler.phases(), sampler.records()

    Ticks are taken inside phases only, so each one belongs to the phase it names. Peaks of torch
    are exact (the allocator counts them); those of NVML and the host are the largest tick, with one
    tick forced at both ends of every phase. The sampler never raises for a source that fails: the
    fields it feeds become `NotMeasured` with the reason.
    """

    def __init__(
        self,
        arm: str,
        device: str,
        *,
        interval_seconds: float | None = None,
        max_records: int = 2000,
        torch: ModuleType | None = None,
    ) -> None:
        """Prepare; nothing is opened before the sampler is entered.

        Args:
            arm: Name of the arm, for the records.
            device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
            interval_seconds: Between ticks; None takes 0.02 with a GPU and 0.2 without.
            max_records: The most that `records` returns.
            torch: The torch module; imported when it is needed and not given.
        """
        self._arm = arm
        self._device = device
        self._interval_seconds = interval_seconds
        self._max_records = max_records
        self._torch = torch
        self._sources: MemorySources | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._ticks: list[Tick] = []
        self._totals: dict[Phase, PhaseTotals] = {}
        self._phase: Phase | None = None
        self._failure: str | None = None
        self._origin = time.perf_counter()

    def __enter__(self) -> Self:
        """Open the sources and start the thread."""
        if self._sources is not None:
            raise RuntimeError("a memory sampler runs once; create another one")
        self._sources = MemorySources(self._device, self._torch)
        self._origin = time.perf_counter() - self._sources.process_age_seconds()
        if self._interval_seconds is None:
            gpu = self._sources.has_gpu
            self._interval_seconds = GPU_INTERVAL_SECONDS if gpu else HOST_INTERVAL_SECONDS
        self._thread = threading.Thread(target=self._loop, name="memory-sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the thread and release NVML."""
        self._stop.set()
        assert self._thread is not None
        assert self._sources is not None
        self._thread.join()
        self._sources.close()

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Everything inside belongs to this phase; occurrences of one name are merged.

        The device is synchronised at both ends, so that the seconds hold the work started inside;
        they leave out the forced ticks, which a clock around the phase would count.

        Raises:
            RuntimeError: Another phase is open (torch keeps one peak), or no sampler runs.
        """
        if self._phase is not None:
            raise RuntimeError(f"phase {name!r} cannot open inside phase {self._phase!r}")
        if self._sources is None or self._stop.is_set():
            raise RuntimeError("open the memory sampler with `with` before its phases")
        synchronize(self._device)
        with self._lock:
            totals = self._totals.setdefault(name, PhaseTotals())
            self._sources.reset_torch_peaks()
            self._phase = name
        self._tick()
        start = time.perf_counter()
        try:
            yield
            synchronize(self._device)
        finally:
            totals.seconds += time.perf_counter() - start
            self._tick()
            with self._lock:
                self._phase = None
                totals.raise_peaks(self._sources.torch_peaks())
                totals.reasons |= self._failed_fields() | self._sources.reasons
                totals.finished = True

    def snapshot(self) -> Snapshot:
        """Memory at this moment, in or out of a phase, after waiting for the device.

        Raises:
            RuntimeError: No sampler runs.
        """
        if self._sources is None or self._stop.is_set():
            raise RuntimeError("open the memory sampler with `with` before its snapshots")
        synchronize(self._device)
        with self._lock:
            reading = self._sources.read()
            return snapshot(reading, self._sources.reasons)

    def phases(self) -> tuple[PhaseRecord, ...]:
        """One record per phase that has ended at least once, in the order they first began."""
        with self._lock:
            return tuple(
                totals.record(name) for name, totals in self._totals.items() if totals.finished
            )

    def records(self) -> list[MemoryRecord]:
        """The ticks so far, thinned evenly in time; changes of phase and peaks stay."""
        with self._lock:
            ticks = thin(self._ticks, self._max_records)
        return [tick.record(self._arm) for tick in ticks]

    def _loop(self) -> None:
        assert self._interval_seconds is not None
        while self._failure is None and not self._stop.wait(self._interval_seconds):
            self._tick()

    def _tick(self) -> None:
        """Take one reading inside a phase. An error ends the sampling and becomes its reason."""
        with self._lock:
            if self._phase is None or self._failure is not None:
                return
            assert self._sources is not None
            try:
                reading = self._sources.read()
                seconds = time.perf_counter() - self._origin
                self._ticks.append(Tick(seconds, self._phase, reading))
                self._totals[self._phase].raise_peaks(present(reading))
                if len(self._ticks) > _CROWDED * self._max_records:
                    self._ticks = thin(self._ticks, _CROWDED * self._max_records // 2)
            except Exception as error:
                self._failure = f"the memory sampler stopped: {describe(error)}"

    def _failed_fields(self) -> dict[str, str]:
        """Fields whose peaks rest on ticks, when the ticks have stopped."""
        if self._failure is None:
            return {}
        return {name: self._failure for name in FIELDS if name not in TORCH_FIELDS}
