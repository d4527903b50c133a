"""Accuracy by where the needle stands."""

from __future__ import annotations

from gistbench.metrics import format_percent
from gistbench.records import SampleRecord
from gistbench.report.card import DepthCell, DepthRow, DepthTable
from gistbench.report.evidence import Evidence
from gistbench.report.sections.columns import FEW_TASKS, main_arms
from gistbench.report.sections.figures import rate_figure
from gistbench.report.shown import Figure

MANY, FINE, COARSE = 200, 10, 5


def depth_tables(evidence: Evidence) -> tuple[DepthTable, ...]:
    """One table per task whose samples know their needle's depth.

    Of many tasks, those at the length at which criteria are judged, the first of them open.
    """
    tables: list[DepthTable] = []
    main = main_arms(evidence)
    few = len(evidence.run.tasks) <= FEW_TASKS
    for task in evidence.run.tasks if few else evidence.judged_tasks:
        located = {
            arm.name: [
                (depth, sample.scores["exact_match"] == 1)
                for sample in evidence.samples(arm.name, task)
                if (depth := depth_of(sample)) is not None
            ]
            for arm in evidence.run.arms
            if arm.name in main
        }
        located = {arm: found for arm, found in located.items() if found}
        if not located:
            continue
        count = FINE if min(len(found) for found in located.values()) >= MANY else COARSE
        rows = tuple(
            DepthRow(arm=arm, cells=_cells(found, count)) for arm, found in located.items()
        )
        tables.append(
            DepthTable(
                task=evidence.label(task),
                bins=tuple(
                    f"{100 * i // count} to {100 * (i + 1) // count} %" for i in range(count)
                ),
                centres=tuple((i + 0.5) / count for i in range(count)),
                rows=rows,
                summary=" ".join(_sentence(row) for row in rows),
                open=few or not tables,
            )
        )
    return tuple(tables)


def depth_of(sample: SampleRecord) -> float | None:
    """Where the needle really starts, else where it was meant to; 0 to 1, or None."""
    depth = sample.needle_depth if sample.needle_depth is not None else sample.depth
    return depth if depth is not None and 0 <= depth <= 1 else None


def _cells(found: list[tuple[float, bool]], count: int) -> tuple[DepthCell, ...]:
    hits, totals = [0] * count, [0] * count
    for depth, right in found:
        place = min(int(depth * count), count - 1)
        totals[place] += 1
        hits[place] += right
    return tuple(_cell(hit, total) for hit, total in zip(hits, totals, strict=True))


def _cell(hits: int, n: int) -> DepthCell:
    if n == 0:
        figure = Figure(text="no sample", not_measured="no needle stands here")
        return DepthCell(hits=0, n=0, figure=figure, heat=None)
    figure = rate_figure(hits, n)
    low, high = 100 * (figure.low or 0.0), 100 * (figure.high or 0.0)
    return DepthCell(
        hits=hits,
        n=n,
        figure=figure,
        interval=f"{low:.3g} to {high:.3g} %",
        count=f"n = {n:,}",
        heat=10 * hits // n,
    )


def _sentence(row: DepthRow) -> str:
    filled = [cell for cell in row.cells if cell.n]
    rates = [cell.hits / cell.n for cell in filled]
    low, high = format_percent(min(rates)), format_percent(max(rates))
    where = f"{low} at every depth" if low == high else f"{low} to {high} over the depths"
    return f"Arm {row.arm}: {where}."
