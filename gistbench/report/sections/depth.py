"""Accuracy by where the needle stands, and how two arms differ there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gistbench.metrics import format_percent
from gistbench.records import SampleRecord, TaskRecord
from gistbench.report.evidence import Evidence
from gistbench.report.needle import DepthCell, DepthRow, DepthTable
from gistbench.report.sections.columns import FEW_TASKS, main_arms
from gistbench.report.sections.comparisons import main_pairs
from gistbench.report.sections.figures import rate_figure
from gistbench.report.shown import Figure
from gistbench.report.statistics import paired_difference

MANY, FINE, COARSE = 200, 10, 5
NOWHERE = Figure(text="no sample", not_measured="no needle stands here")


def depth_tables(evidence: Evidence) -> tuple[DepthTable, ...]:
    """One table for each task whose samples know their needle's depth.

    Of a task at several lengths, that at which criteria are judged. Of many tasks, the first is
    open.
    """
    few = len({task.name for task in evidence.run.tasks}) <= FEW_TASKS
    first: dict[str, TaskRecord] = {}
    for task in (*evidence.judged_tasks, *evidence.run.tasks):
        first.setdefault(task.name, task)
    tables: list[DepthTable] = []
    for task in first.values():
        count = num_bins(evidence, [task])
        if count is None:
            continue
        located = {arm: _located(evidence, arm, task) for arm in main_arms(evidence)}
        rows = tuple(
            DepthRow(arm=arm, cells=rate_cells(found, count))
            for arm, found in located.items()
            if found
        )
        differences = tuple(
            DepthRow(arm=f"{one} minus {two}", cells=cells)
            for one, two in main_pairs(evidence)
            if (cells := difference_cells(located.get(one, ()), located.get(two, ()), count))
        )
        tables.append(
            DepthTable(
                task=evidence.label(task),
                bins=bin_labels(count),
                centres=tuple((i + 0.5) / count for i in range(count)),
                rows=rows,
                differences=differences,
                summary=" ".join(_sentence(row) for row in rows),
                open=few or not tables,
            )
        )
    return tuple(tables)


def depth_of(sample: SampleRecord) -> float | None:
    """Where the needle really starts, else where it was meant to; 0 to 1, or None."""
    depth = sample.needle_depth if sample.needle_depth is not None else sample.depth
    return depth if depth is not None and 0 <= depth <= 1 else None


def num_bins(evidence: Evidence, tasks: Iterable[TaskRecord]) -> int | None:
    """Ten parts of the context where every main arm has samples enough, else five; None if none."""
    sizes = [len(_located(evidence, arm, t)) for t in tasks for arm in main_arms(evidence)]
    sizes = [size for size in sizes if size]
    if not sizes:
        return None
    return FINE if min(sizes) >= MANY else COARSE


def bin_labels(count: int) -> tuple[str, ...]:
    """What the parts are called."""
    return tuple(f"{100 * i // count} to {100 * (i + 1) // count} %" for i in range(count))


def _located(evidence: Evidence, arm: str, task: TaskRecord) -> list[SampleRecord]:
    return [s for s in evidence.samples(arm, task) if depth_of(s) is not None]


def rate_cells(samples: Iterable[SampleRecord], count: int) -> tuple[DepthCell, ...]:
    """Rates of right answers, with Wilson's intervals."""
    hits, totals = [0] * count, [0] * count
    for sample in samples:
        depth = depth_of(sample)
        if depth is not None:
            place = min(int(depth * count), count - 1)
            totals[place] += 1
            hits[place] += sample.scores["exact_match"] == 1
    return tuple(_rate_cell(hit, total) for hit, total in zip(hits, totals, strict=True))


def _rate_cell(hits: int, n: int) -> DepthCell:
    if n == 0:
        return DepthCell(hits=0, n=0, figure=NOWHERE, heat=None)
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


def difference_cells(
    first: Sequence[SampleRecord], second: Sequence[SampleRecord], count: int
) -> tuple[DepthCell, ...]:
    """Rates of one arm minus those of another on the prompts that both answered.

    Returns:
        Nothing where they have no prompt in common.
    """
    sides: tuple[list[dict[str, bool]], ...] = tuple([{} for _ in range(count)] for _ in range(2))
    for side, samples in zip(sides, (first, second), strict=True):
        for sample in samples:
            depth = depth_of(sample)
            if depth is not None:
                place = min(int(depth * count), count - 1)
                side[place][sample.prompt_sha256] = sample.scores["exact_match"] == 1
    cells = tuple(_difference_cell(one, two) for one, two in zip(*sides, strict=True))
    return cells if any(cell.n for cell in cells) else ()


def _difference_cell(first: dict[str, bool], second: dict[str, bool]) -> DepthCell:
    if not first.keys() & second.keys():
        return DepthCell(hits=None, n=0, figure=NOWHERE, heat=None)
    gap = paired_difference(first, second).difference
    low, high = f"{100 * gap.low:+.3g}", f"{100 * gap.high:+.3g}"
    return DepthCell(
        hits=None,
        n=gap.n,
        figure=Figure(
            value=gap.value,
            low=gap.low,
            high=gap.high,
            n=gap.n,
            text=f"{100 * gap.value:+.1f}",
            detail=f"Newcombe {low} to {high}, n = {gap.n:,}",
        ),
        interval=f"{low} to {high}",
        count=f"n = {gap.n:,}",
        heat=int(round(10 * gap.value, 6)),  # towards 0: next to no difference has no shade
    )


def _sentence(row: DepthRow) -> str:
    filled = [cell for cell in row.cells if cell.n]
    rates = [(cell.hits or 0) / cell.n for cell in filled]
    low, high = format_percent(min(rates)), format_percent(max(rates))
    where = f"{low} at every depth" if low == high else f"{low} to {high} over the depths"
    return f"Arm {row.arm}: {where}."
