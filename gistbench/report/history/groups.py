"""One group of like runs: taken in one after the other, each held against the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

from gistbench.records import CheckpointRecord, RunRecord
from gistbench.report.compare.differing import HASH_DIGITS, devices, settings
from gistbench.report.compare.pairing import ArmPair, is_main, run_pair
from gistbench.report.compare.sides import Side
from gistbench.report.controls import CONTROLS
from gistbench.report.evidence import Cell, cell_of
from gistbench.report.history.finding import time_of
from gistbench.report.history.records import (
    Flag,
    HistoryGroup,
    HistoryRun,
    Step,
)
from gistbench.report.history.trends import (
    COSTS,
    MOST_PANELS,
    Costs,
    Rates,
    accuracy_trends,
    conditions,
    cost_label,
    cost_trends,
    score_trend,
)
from gistbench.report.ladder import PairedRow
from gistbench.report.sections.tables import Group, TableRow, metric_table
from gistbench.report.shown import Figure, Line, MetricTable
from gistbench.report.verdicts import score

FLAGGED = ("better", "worse")


class GroupBuilder:
    """Takes in the runs of a group, the oldest first, and keeps figures instead of samples.

    Args:
        record: Of any run of the group: what all of them share is taken from it.
        title: What the group is called.
    """

    def __init__(self, record: RunRecord, title: str) -> None:
        self._record = record
        self._title = title
        self._labels = _labels(record)
        every = [ArmPair(arm.name, arm.name) for arm in record.arms if arm.name not in CONTROLS]
        self._pairs = [pair for pair in every if is_main(pair, every)]
        self._omitted = len(every) - len(self._pairs)
        self._runs: list[HistoryRun] = []
        self._rates: list[Rates] = []
        self._costs: list[Costs] = []
        self._steps: list[Step] = []
        self._first: Side | None = None
        self._last: Side | None = None

    @property
    def num_runs(self) -> int:
        """Runs taken in so far."""
        return len(self._runs)

    def add(self, side: Side, shown: HistoryRun) -> None:
        """Take in the next run."""
        arms = [pair.arm for pair in self._pairs]
        cells = [cell_of(task) for task in self._record.tasks]
        self._rates.append({(arm, cell): _rate(side, arm, cell) for arm in arms for cell in cells})
        self._costs.append(
            {
                (arm, cost): (side.figures[arm].cost[cost], conditions(side, arm, cost))
                for arm in arms
                for cost in COSTS
            }
        )
        if self._last is not None:
            self._steps += self._compare(self._last, side)
        self._runs.append(shown)
        self._first = self._first or side
        self._last = side

    def group(self) -> HistoryGroup:
        """Everything that is shown of the runs taken in."""
        labels, arms = self._labels, [pair.arm for pair in self._pairs]
        return HistoryGroup(
            title=self._title,
            about=_about(self._record, labels),
            runs=tuple(self._runs),
            steps=tuple(self._steps),
            flags=tuple(_flags(self._steps)),
            since_first=self._since_first(),
            omitted=f"Shown for the arms without a budget; {self._omitted} more ran."
            if self._omitted
            else "",
            not_drawn=f"The first {MOST_PANELS} of {len(labels)} tasks are drawn."
            if len(labels) > MOST_PANELS
            else "",
            accuracy=self._accuracy(),
            costs=self._cost_table(),
            accuracy_trends=(
                *accuracy_trends(arms, labels, self._rates),
                score_trend([run.score for run in self._runs]),
            ),
            cost_trends=cost_trends(arms, self._costs),
        )

    def _compare(self, before: Side, after: Side) -> Iterator[Step]:
        changed = _changed(before.evidence.run, after.evidence.run)
        for pair in self._pairs:
            found = run_pair(before, after, pair, self._labels)
            yield Step(
                run=after.label,
                before=before.label,
                arm=pair.arm,
                changed=changed,
                rows=found.rows,
                unpaired=tuple(Line(label=one.task, text=one.reason) for one in found.unpaired),
            )

    def _since_first(self) -> tuple[str, ...]:
        first, last = self._first, self._last
        if first is None or last is None or self.num_runs < 3:
            return ()  # two runs are one step, which is shown as such
        return tuple(run_pair(first, last, pair, self._labels).text for pair in self._pairs)

    def _accuracy(self) -> MetricTable:
        verdicts = {
            (step.run, step.arm, row.task): row for step in self._steps for row in step.rows
        }
        unpaired = {
            (step.run, step.arm, line.label): line.text
            for step in self._steps
            for line in step.unpaired
        }

        def row(number: int, arm: str) -> TableRow:
            run = self._runs[number]
            cells = []
            for cell, label in self._labels.items():
                key = (run.label, arm, label)
                rate = self._rates[number][arm, cell]
                cells.append(_marked(rate, verdicts.get(key), unpaired.get(key)))
            return _row_label(run), cells, run.label

        groups: list[Group] = [
            (pair.arm, [row(number, pair.arm) for number in range(self.num_runs)])
            for pair in self._pairs
        ]
        caption = (
            f"{self._title}: strict exact match with Wilson's 95 % interval, the oldest run first; "
            "marked where the paired test against the run before says better or worse"
        )
        return metric_table(caption, list(self._labels.values()), groups)

    def _cost_table(self) -> MetricTable:
        groups: list[Group] = []
        for pair in self._pairs:
            rows: list[TableRow] = []
            for run, costs in zip(self._runs, self._costs, strict=True):
                cells = [costs[pair.arm, cost][0] for cost in COSTS]
                rows.append((_row_label(run), cells, run.device))
            groups.append((pair.arm, rows))
        names = [cost_label(cost) for cost in COSTS]
        caption = f"{self._title}: costs, the oldest run first; no test is made of them"
        return metric_table(caption, names, groups)


def group_title(record: RunRecord) -> str:
    """Base model, precision and tasks of the runs of a group."""
    few = list(_labels(record).values())
    tasks = ", ".join(few) if len(few) <= 2 else f"{few[0]} and {len(few) - 1} more tasks"
    return f"{record.base.name}, {_precision(record)}: {tasks}"


def history_run(side: Side) -> HistoryRun:
    """One run in a row of a table."""
    run = side.evidence.run
    where, points = run.provenance, score(side.verdicts)
    commit = (where.git_commit or "unknown")[:HASH_DIGITS]
    checkpoint = run.checkpoint
    return HistoryRun(
        label=side.label,
        created=run.created,
        when=_when(run.created),
        commit=f"{commit} + changes" if where.git_dirty else commit,
        checkpoint=f"{checkpoint.name} ({checkpoint.sha256[:8]})" if checkpoint else "none",
        device=", ".join(sorted(devices(side))),
        gistbench_version=where.gistbench_version,
        score=Figure(value=points.earned, text=points.text, detail=points.measurable),
        invalid=side.leaks,
    )


def _labels(record: RunRecord) -> dict[Cell, str]:
    names = [task.name for task in record.tasks]
    return {
        cell_of(task): task.name
        if names.count(task.name) == 1
        else f"{task.name}, {task.context_tokens:,} tokens"
        for task in record.tasks
    }


def _rate(side: Side, arm: str, cell: Cell) -> Figure:
    task = side.task(cell)
    assert task is not None  # runs of a group have the same tasks
    return side.figures[arm].accuracy[side.evidence.label(task)]["exact_match"]


def _changed(before: RunRecord, after: RunRecord) -> str:
    """What else is new in a run, since a verdict does not say what caused it."""
    one, two = _facets(before), _facets(after)
    new = [name for name in one if one[name] != two[name]]
    return f"new: {', '.join(new)}" if new else "nothing else is new"


def _facets(run: RunRecord) -> dict[str, Any]:
    """What may be new in a run of a group, kind by kind."""
    where = run.provenance
    return {
        "checkpoint": _sha256(run.checkpoint),
        "tuned checkpoint": _sha256(run.tuned_checkpoint),
        "commit": (where.git_commit, where.git_dirty),
        "device": (where.device_name, where.num_cpu_cores),
        "driver, CUDA or Python": (where.driver_version, where.cuda_version, where.python),
        "package versions": (where.packages, {arm.name: arm.packages for arm in run.arms}),
        "settings": settings(run),
    }


def _sha256(checkpoint: CheckpointRecord | None) -> str | None:
    return checkpoint.sha256 if checkpoint else None


def _flags(steps: Sequence[Step]) -> Iterator[Flag]:
    for step in reversed(steps):
        for row in step.rows:
            if row.verdict in FLAGGED:
                gap = row.difference
                doubt = "" if row.counts else ", and the task is not discriminative"
                yield Flag(
                    verdict=str(row.verdict),
                    text=f"{step.arm} on {row.task}, {step.run} after {step.before}: {gap.text} "
                    f"({gap.detail.removeprefix('Newcombe ')}){doubt}; {step.changed}",
                )


def _marked(rate: Figure, row: PairedRow | None, why_not: str | None) -> Figure:
    """A rate that says how it stands to the run before, where there is something to say."""
    if why_not is not None:
        return rate.model_copy(update={"detail": f"no verdict: {why_not}; {rate.detail}"})
    if row is None or row.verdict not in FLAGGED:
        return rate
    detail = f"{row.verdict} than before, {row.difference.text}; {rate.detail}"
    return rate.model_copy(update={"badge": row.verdict, "detail": detail})


def _about(record: RunRecord, labels: dict[Cell, str]) -> tuple[Line, ...]:
    lengths = sorted({task.context_tokens for task in record.tasks})
    return (
        Line(label="Base weights", text=f"{record.base.name}, {record.base.fingerprint[:16]}"),
        Line(label="Precision", text=_precision(record)),
        Line(label="Tasks", text=", ".join(labels.values())),
        Line(label="Context tokens", text=", ".join(f"{tokens:,}" for tokens in lengths)),
        Line(
            label="Samples",
            text=", ".join(f"{n:,}" for n in sorted({t.num_samples for t in record.tasks})),
        ),
        Line(label="Arms", text=", ".join(arm.name for arm in record.arms)),
    )


def _precision(record: RunRecord) -> str:
    base = record.base
    return base.dtype if base.quantization == "none" else f"{base.dtype}, {base.quantization}"


def _when(created: str) -> str:
    return time_of(created).astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def _row_label(run: HistoryRun) -> str:
    return f"{run.when}, {run.commit}"
