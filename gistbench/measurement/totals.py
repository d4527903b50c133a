"""All occurrences of one phase, merged: seconds add up, peaks take the largest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gistbench.measurement.sources import ABSENT, FIELDS, Reading, Snapshot
from gistbench.records import Count, NotMeasured, Phase, PhaseRecord


def present(reading: Reading) -> dict[str, int]:
    """The figures of a reading that exist, in bytes by field name."""
    values = {name: getattr(reading, name) for name in FIELDS}
    return {name: value for name, value in values.items() if value is not None}


def snapshot(reading: Reading, reasons: Mapping[str, str]) -> Snapshot:
    """A reading in which every missing figure says why."""
    totals = PhaseTotals(peaks=present(reading), reasons=dict(reasons))
    return Snapshot(**{name: totals.count(name) for name in FIELDS})


@dataclass(slots=True)
class PhaseTotals:
    """What one phase has used so far.

    Attributes:
        seconds: Of all occurrences together.
        peaks: Bytes by field name.
        reasons: Field name -> why its peak is not known. A source that failed during one
            occurrence leaves no peak at all: the largest value may have been missed.
        finished: Whether an occurrence has ended.
    """

    seconds: float = 0.0
    peaks: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    finished: bool = False

    def raise_peaks(self, values: Mapping[str, int]) -> None:
        """Take in one more set of figures."""
        for name, value in values.items():
            self.peaks[name] = max(value, self.peaks.get(name, value))

    def count(self, name: str) -> Count:
        """The peak of a field, or why there is none."""
        if name in self.reasons:
            return NotMeasured(not_measured=self.reasons[name])
        return self.peaks[name] if name in self.peaks else NotMeasured(not_measured=ABSENT[name])

    def record(self, phase: Phase) -> PhaseRecord:
        """The totals as they are stored."""
        return PhaseRecord(
            phase=phase,
            seconds=self.seconds,
            torch_allocated_peak_bytes=self.count("torch_allocated_bytes"),
            torch_reserved_peak_bytes=self.count("torch_reserved_bytes"),
            device_used_peak_bytes=self.count("device_used_bytes"),
            process_used_peak_bytes=self.count("process_used_bytes"),
            resident_peak_bytes=self.count("resident_bytes"),
        )
