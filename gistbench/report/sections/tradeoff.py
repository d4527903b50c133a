"""Accuracy against the bytes that an arm keeps for a context."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from gistbench.metrics import format_bytes, format_percent
from gistbench.records import TaskRecord
from gistbench.report.controls import exact
from gistbench.report.discrimination import task_status
from gistbench.report.evidence import PASSKEY_FAMILY, TUNED, Evidence
from gistbench.report.ladder import Tradeoff, TradeoffPoint
from gistbench.report.rates import combine
from gistbench.report.sections.columns import budget_of, compared_arms, family_of
from gistbench.report.sections.figures import absent, not_applicable, rate_figure
from gistbench.report.sections.tables import TableRow, metric_table
from gistbench.report.shown import Figure
from gistbench.report.statistics import wilson

CORE_TASKS = (
    "niah_passkey",
    "niah_passkey_prose",
    "niah_labelled_4",
    "niah_absent",
    "document_topic",
)
"""The lm-eval group `gistbench_core`."""

SEES_QUESTION = "chosen with the question known"


def tradeoff(evidence: Evidence) -> Tradeoff | None:
    """Every arm at its budget, at the judged length; None for a run without budgets.

    The main panel is the mean over the tasks that can tell arms apart, each with the same weight.
    Where `full-tuned` did not say which these are, it is the passkey task alone.
    """
    arms = compared_arms(evidence)
    if not any(budget_of(evidence, arm) is not None for arm in arms):
        return None
    tasks = evidence.judged_tasks
    chosen = [task for task in tasks if task_status(evidence, task).discriminative is True]
    core = [task for name in CORE_TASKS if (task := evidence.task(name))]
    panels: list[tuple[str, Sequence[TaskRecord]]] = []
    if evidence.arm(TUNED) is not None and chosen:
        panels.append((f"mean of the {len(chosen)} tasks that tell arms apart", chosen))
    elif passkey := evidence.task(PASSKEY_FAMILY):
        panels.append((passkey.name, [passkey]))
        core.remove(passkey)
    panels += [(task.name, [task]) for task in core]
    points = [
        TradeoffPoint(
            arm=arm,
            family=family_of(evidence, arm),
            sees_question=bool((record := evidence.arm(arm)) and record.sees_question),
            cache_bytes=statistics.median(s.cache_bytes for s in samples) if samples else 0,
            rates=tuple(_rate(evidence, arm, found) for _, found in panels),
        )
        for arm in arms
        for samples in (evidence.judged_samples(arm),)
    ]
    if not panels:
        return None
    names = tuple(name for name, _ in panels)
    caption = f"Strict exact match and kept bytes at {evidence.judged_tokens:,} tokens"
    rows: list[TableRow] = [
        (p.arm, [_bytes(evidence, p), *p.rates], SEES_QUESTION if p.sees_question else "")
        for p in points
    ]
    return Tradeoff(
        panels=names,
        caption=caption,
        points=tuple(point for point in points if point.cache_bytes > 0),
        table=metric_table(
            f"{caption}; Wilson intervals, of a mean by MOVER",
            ("key/value cache per context", *names),
            [("Arms", rows)],
        ),
    )


def _bytes(evidence: Evidence, point: TradeoffPoint) -> Figure:
    if point.cache_bytes <= 0:
        return _silent(evidence, point.arm, evidence.judged_tasks)
    return Figure(value=point.cache_bytes, text=format_bytes(point.cache_bytes))


def _rate(evidence: Evidence, arm: str, tasks: Sequence[TaskRecord]) -> Figure:
    """The mean rate over tasks, or why there is none: all of them have to be answered."""
    counts = []
    for task in tasks:
        samples = evidence.samples(arm, task)
        if not samples:
            return _silent(evidence, arm, (task,))
        counts.append((exact(samples), len(samples)))
    if len(counts) == 1:
        return rate_figure(*counts[0])
    found = combine([(1 / len(counts), wilson(*count)) for count in counts])
    low, high = format_percent(max(0.0, found.low)), format_percent(min(1.0, found.high))
    return Figure(
        value=found.value,
        low=found.low,
        high=found.high,
        n=found.n,
        text=format_percent(found.value),
        detail=f"{low} to {high}, n = {found.n:,}",
    )


def _silent(evidence: Evidence, arm: str, tasks: Sequence[TaskRecord]) -> Figure:
    for task in tasks:
        if reason := evidence.not_applicable(arm, task):
            return not_applicable(reason)
    names = ", ".join(task.name for task in tasks[:1])
    return absent(f"this arm has no answers on {names}" if names else "no answers")
