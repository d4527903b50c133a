"""What the two pages show: every figure computed, so that templates print and never compute."""

from __future__ import annotations

from typing import Literal

from gistbench.records import Record
from gistbench.report.shown import Line, MetricTable


class CurvePoint(Record):
    """One point of a curve."""

    x: float
    y: float


class Curve(Record):
    """A line of a chart."""

    label: str
    points: tuple[CurvePoint, ...]


class Chart(Record):
    """A chart with logarithmic axes, and the table behind it.

    Attributes:
        unit: Of the y axis; bytes are shown in GiB.
    """

    title: str
    x_label: str
    y_label: str
    unit: Literal["rate", "bytes", "seconds"]
    curves: tuple[Curve, ...]
    behind: MetricTable


class PageSection(Record):
    """A part of a page.

    Attributes:
        id: Of its heading.
        lead: Sentences before the tables.
    """

    id: str
    title: str
    lead: tuple[str, ...] = ()
    tables: tuple[MetricTable, ...] = ()
    charts: tuple[Chart, ...] = ()
    folded: tuple[MetricTable, ...] = ()


class SpeedCard(Record):
    """A page about speed and memory.

    Attributes:
        broken: Measurements that contradict their floors, in words.
    """

    schema_version: Literal[1] = 1
    kind: str
    title: str
    created: str
    broken: tuple[str, ...]
    notes: tuple[str, ...]
    sections: tuple[PageSection, ...]
    environment: tuple[Line, ...]
    command: str
