"""Effective length of every arm on every task that ran at several lengths."""

from __future__ import annotations

from collections.abc import Sequence

from gistbench.metrics import format_percent
from gistbench.records import TaskRecord
from gistbench.report.controls import exact
from gistbench.report.evidence import Evidence
from gistbench.report.lengths import SHARE, effective_length
from gistbench.report.rates import at_floor
from gistbench.report.sections.columns import compared_arms, main_arms, rival_families
from gistbench.report.sections.figures import absent, not_applicable
from gistbench.report.sections.tables import metric_table
from gistbench.report.shown import Figure, MetricTable

CAPTION = (
    f"Longest context that keeps {100 * SHARE:g} % of the score at the shortest, as does every one "
    "before it; a range is what the 95 % intervals leave open"
)


def effective_lengths(evidence: Evidence) -> tuple[MetricTable, ...]:
    """A row for each task with at least two lengths; the main arms first, then each family."""
    tasks: dict[str, list[TaskRecord]] = {}
    for task in evidence.run.tasks:
        tasks.setdefault(task.name, []).append(task)
    tasks = {name: found for name, found in tasks.items() if len(found) > 1}
    if not tasks:
        return ()
    compared = compared_arms(evidence)
    columns = {"": [arm for arm in main_arms(evidence) if arm in compared]}
    columns |= {name: list(arms) for name, arms in rival_families(evidence).items()}
    tables = []
    for family, arms in columns.items():
        rows = [
            (name, [_cell(evidence, arm, found) for arm in arms], "")
            for name, found in tasks.items()
        ]
        caption = f"{family}: {CAPTION[0].lower()}{CAPTION[1:]}" if family else CAPTION
        if arms:
            tables.append(metric_table(caption, arms, [("Task", rows)]))
    return tuple(tables)


def _cell(evidence: Evidence, arm: str, tasks: Sequence[TaskRecord]) -> Figure:
    counts, floors, reasons = {}, {}, []
    for task in tasks:
        if reason := evidence.not_applicable(arm, task):
            reasons.append(reason)
        elif samples := evidence.samples(arm, task):
            counts[task.context_tokens] = exact(samples), len(samples)
            floors[task.context_tokens] = task.chance_floor
    if not counts:
        return (
            not_applicable(reasons[0]) if reasons else absent("this arm was not run on this task")
        )
    if len(counts) < 2:
        return absent("answered at one length only")
    shortest, longest = min(counts), max(counts)
    found = effective_length(counts)
    if found is None or at_floor(*counts[shortest], floors[shortest]):
        return absent(f"at its chance floor at {shortest:,} tokens already: nothing to keep")
    shown = f"{found.length_tokens:,} tokens"
    detail = f"{format_percent(found.scores[0].rate.value)} at {shortest:,}"
    if found.is_open:
        detail = f"by the rates alone {shown}; {detail}"
        shown = f"{found.low_tokens:,} to {found.high_tokens:,} tokens"
    elif found.reaches_longest:
        shown = f"at least {shown}"
    return Figure(
        value=found.length_tokens,
        low=found.low_tokens,
        high=found.high_tokens,
        n=sum(n for _, n in counts.values()),
        text=shown,
        detail=f"{detail}; measured to {longest:,}",
    )
