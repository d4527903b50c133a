"""What every part of a scorecard is made of: a figure, a line, a table."""

from __future__ import annotations

from gistbench.records import Record


class Figure(Record):
    """One number as it is shown, with what it rests on.

    Attributes:
        text: The value with its unit, or "not measured".
        detail: Interval and n, or spread, in words.
        not_measured: The reason where there is no value.
        footnote: Number of the reason under the table that shows this figure.
        not_applicable: Whether there can be no value, `not_measured` saying why.
        badge: The verdict that `text` is, where it is one.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    text: str
    detail: str = ""
    not_measured: str | None = None
    footnote: int | None = None
    not_applicable: bool = False
    badge: str = ""


class Line(Record):
    """A label and a text."""

    label: str
    text: str


class Row(Record):
    """One row of a table. `note` stands with its label."""

    label: str
    cells: tuple[Figure, ...]
    note: str = ""


class RowGroup(Record):
    """Rows under one heading."""

    title: str
    rows: tuple[Row, ...]


class MetricTable(Record):
    """Figures in rows and columns; mostly arms side by side, a column each."""

    caption: str
    columns: tuple[str, ...]
    groups: tuple[RowGroup, ...]
    footnotes: tuple[str, ...] = ()
