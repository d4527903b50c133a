"""A history of runs as a record: `history.json`, and all that its pages and charts show."""

from __future__ import annotations

from typing import Literal

from gistbench.records import Record
from gistbench.report.ladder import PairedRow
from gistbench.report.shown import Figure, Line, MetricTable


class HistoryRun(Record):
    """One run of a group.

    Attributes:
        label: Its folder, below the one that was asked for.
        when: Its date as it is shown.
        commit: Shortened; with a mark where there were uncommitted changes.
        checkpoint: Name and the start of its hash.
        score: Points out of 100.
        invalid: Leaks.
    """

    label: str
    created: str
    when: str
    commit: str
    checkpoint: str
    device: str
    gistbench_version: str
    score: Figure
    invalid: tuple[str, ...] = ()


class Step(Record):
    """One arm of a run against the run before it, prompt by prompt.

    Attributes:
        run, before: Labels of the two runs.
        changed: What else is new in the run: checkpoint, commit, device, versions.
        rows: A verdict for each task.
        unpaired: Tasks without a verdict, and why.
    """

    run: str
    before: str
    arm: str
    changed: str
    rows: tuple[PairedRow, ...]
    unpaired: tuple[Line, ...] = ()


class Flag(Record):
    """A step that the paired test calls better or worse."""

    verdict: str
    text: str


class TrendPoint(Record):
    """One figure of one run. Only points under the same conditions are joined by a line."""

    run: int
    figure: Figure
    conditions: str = ""


class TrendLine(Record):
    """One arm through the runs."""

    arm: str
    points: tuple[TrendPoint, ...]


class Trend(Record):
    """One panel of a chart: a task, or a cost."""

    title: str
    metric: str
    lines: tuple[TrendLine, ...]


class HistoryGroup(Record):
    """Runs that are the same thing measured again, the oldest first.

    Attributes:
        about: What they have in common.
        flags: Steps called better or worse, the latest first.
        since_first: The last run against the first, an arm a line; empty for fewer than three runs.
        omitted: How many arms are not shown.
        not_drawn: How many tasks stand in the table alone.
        accuracy_trends: A panel for each of the first tasks, and one for the score.
    """

    title: str
    about: tuple[Line, ...]
    runs: tuple[HistoryRun, ...]
    steps: tuple[Step, ...]
    flags: tuple[Flag, ...]
    since_first: tuple[str, ...]
    omitted: str
    not_drawn: str
    accuracy: MetricTable
    costs: MetricTable
    accuracy_trends: tuple[Trend, ...]
    cost_trends: tuple[Trend, ...]


class SkippedRun(Record):
    """A folder that looked like a run and could not be read."""

    folder: str
    reason: str


class History(Record):
    """All groups of a folder, those with most runs first.

    Attributes:
        single: Runs that nothing else here repeats.
    """

    schema_version: Literal[1] = 1
    folder: str
    command: str
    summary: str
    invalid: tuple[str, ...]
    groups: tuple[HistoryGroup, ...]
    single: tuple[HistoryRun, ...]
    skipped: tuple[SkippedRun, ...]
