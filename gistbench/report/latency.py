"""How long answers took, as records: distributions of the times of batches."""

from __future__ import annotations

from gistbench.records import Record
from gistbench.report.shown import MetricTable


class LatencyCurve(Record):
    """One arm's times in rising order, thinned to what a chart can show, ends kept.

    Attributes:
        shares: How many of the times are at most that long, 0 to 1.
    """

    arm: str
    seconds: tuple[float, ...]
    shares: tuple[float, ...]


class LatencyPanel(Record):
    """One quantity, with the arms of which it was measured."""

    quantity: str
    curves: tuple[LatencyCurve, ...]


class Latency(Record):
    """Distributions of times, and the table behind them.

    Attributes:
        notes: What a time is, which percentiles are shown, and what was not measured.
        summary: The medians, for those who do not see the chart.
    """

    panels: tuple[LatencyPanel, ...]
    table: MetricTable
    notes: tuple[str, ...]
    summary: str
