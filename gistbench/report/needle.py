"""Where needles stood and were found, as records: accuracy by depth, and by length and depth."""

from __future__ import annotations

from gistbench.records import Record
from gistbench.report.shown import Figure


class DepthCell(Record):
    """Samples whose needle stands in one part of the context.

    Attributes:
        hits, n: Right answers among them. Of a difference, `hits` is absent.
        heat: The shade: 0 to 10 of a rate, -10 to 10 of a difference; None without samples.
    """

    hits: int | None
    n: int
    figure: Figure
    interval: str = ""
    count: str = ""
    heat: int | None


class DepthRow(Record):
    """One arm, one pair of arms or one length over the bins; `arm` is what stands at its head."""

    arm: str
    cells: tuple[DepthCell, ...]


class DepthTable(Record):
    """Accuracy by depth for one task; bins are equal parts of the context, start to end.

    One that is not `open` stands behind a click and has no chart.

    Attributes:
        differences: One arm minus another on the same prompts.
    """

    task: str
    bins: tuple[str, ...]
    centres: tuple[float, ...]
    rows: tuple[DepthRow, ...]
    differences: tuple[DepthRow, ...] = ()
    summary: str
    open: bool = True


class NeedleMap(Record):
    """One arm, or one arm minus another, by length and depth; the shortest length first."""

    label: str
    caption: str
    rows: tuple[DepthRow, ...]


class NeedleMaps(Record):
    """All maps of one task that ran at several lengths."""

    task: str
    bins: tuple[str, ...]
    maps: tuple[NeedleMap, ...]
    open: bool = True
