"""Accuracy by arm and task, a column for each run and one for each verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gistbench.report.compare.pairing import ArmPair, is_main
from gistbench.report.compare.records import RunPair
from gistbench.report.compare.sides import Side
from gistbench.report.controls import CONTROLS
from gistbench.report.evidence import Cell
from gistbench.report.sections.figures import not_applicable
from gistbench.report.sections.pairings import verdict_figure
from gistbench.report.sections.tables import Group, TableRow, metric_table
from gistbench.report.shown import Figure, MetricTable

MOST_IN_ONE_TABLE = 3
RATES = "Strict exact match with Wilson's 95 % interval"
VERDICTS = "verdicts on the same prompts, difference in points with its 95 % interval"


@dataclass(frozen=True)
class AccuracyTables:
    """The main arms; every other arm; the controls."""

    main: tuple[MetricTable, ...]
    rivals: tuple[MetricTable, ...]
    controls: MetricTable | None


def accuracy_tables(
    sides: Sequence[Side],
    pairs: Sequence[ArmPair],
    compared: Sequence[RunPair],
    labels: Mapping[Cell, str],
) -> AccuracyTables:
    """Rates of every arm of every run, and what the paired tests say of them."""
    verdicts = {
        (found.run, found.arm, found.reference_arm, task): figure
        for found in compared
        for task, figure in _verdicts(found).items()
    }
    judged = [pair for pair in pairs if pair.arm not in CONTROLS]
    main = [pair for pair in judged if is_main(pair, pairs)]

    def tables(chosen: Sequence[ArmPair], caption: str) -> tuple[MetricTable, ...]:
        def group(pair: ArmPair, rates: bool, judgements: bool) -> Group:
            rows: list[TableRow] = []
            for cell, label in labels.items():
                cells = [rate(sides[0], pair.reference, cell)] if rates else []
                for side in sides[1:]:
                    cells += [rate(side, pair.arm, cell)] if rates else []
                    key = (side.label, *pair, label)
                    found = verdicts.get(key) or _none(sides[0], side, pair)
                    cells += [found] if judgements else []
                rows.append((label, cells, ""))
            return pair.title, rows

        columns = [[sides[0].label], *([side.label, _against(side, sides)] for side in sides[1:])]
        if len(sides) <= MOST_IN_ONE_TABLE:
            names = [name for column in columns for name in column]
            groups = [group(pair, True, True) for pair in chosen]
            return (metric_table(f"{caption}{RATES}; {VERDICTS}", names, groups),)
        return (
            metric_table(
                f"{caption}{RATES}",
                [column[0] for column in columns],
                [group(pair, True, False) for pair in chosen],
            ),
            metric_table(
                f"{caption}{VERDICTS[:1].upper()}{VERDICTS[1:]}",
                [column[1] for column in columns[1:]],
                [group(pair, False, True) for pair in chosen],
            ),
        )

    return AccuracyTables(
        main=tables(main, ""),
        rivals=tuple(
            table
            for pair in judged
            if pair not in main
            for table in tables([pair], f"{pair.title}: ")
        ),
        controls=_controls(sides, pairs, labels),
    )


def rate(side: Side, arm: str, cell: Cell) -> Figure:
    """How often an arm was exactly right; why there is no rate, where there is none."""
    task = side.task(cell)
    if task is None:
        lengths = [
            f"{found.context_tokens:,}"
            for found in side.evidence.run.tasks
            if found.name == cell.task
        ]
        asked = f"asked at {', '.join(lengths)} tokens" if lengths else "not asked"
        return not_applicable(f"{cell.task} was {asked} in {side.label}")
    figures = side.figures.get(arm)
    if figures is None:
        return not_applicable(f"{side.label} has no arm {arm}")
    return figures.accuracy[side.evidence.label(task)]["exact_match"]


def _against(side: Side, sides: Sequence[Side]) -> str:
    if len(sides) == 2:
        return f"against {sides[0].label}"
    return f"{side.label} against {sides[0].label}"


def _verdicts(found: RunPair) -> dict[str, Figure]:
    cells = {row.task: verdict_figure(row) for row in found.rows}
    return cells | {
        missing.task: not_applicable(f"no paired verdict: {missing.reason}")
        for missing in found.unpaired
    }


def _none(reference: Side, side: Side, pair: ArmPair) -> Figure:
    for found, arm in ((reference, pair.reference), (side, pair.arm)):
        if arm not in found.figures:
            return not_applicable(f"{found.label} has no arm {arm}")
    return not_applicable(
        f"no paired verdict: not asked in both {side.label} and {reference.label}"
    )


def _controls(
    sides: Sequence[Side], pairs: Sequence[ArmPair], labels: Mapping[Cell, str]
) -> MetricTable | None:
    names = dict.fromkeys(arm for side in sides for arm in side.evidence.arm_names)
    found = [name for name in names if name in CONTROLS]
    if not found or not pairs:
        return None
    groups: list[Group] = [
        (
            name,
            [
                (label, [rate(side, name, cell) for side in sides], "")
                for cell, label in labels.items()
            ],
        )
        for name in found
    ]
    return metric_table(
        "They should know nothing, and are judged by themselves: strict exact match",
        [side.label for side in sides],
        groups,
    )
