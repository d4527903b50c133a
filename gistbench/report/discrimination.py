"""Can a task tell arms apart? Only if the arm that sees everything does better than guessing."""

from __future__ import annotations

from gistbench.metrics import format_percent
from gistbench.records import TaskRecord
from gistbench.report.controls import exact, interval_text
from gistbench.report.evidence import TUNED, Evidence
from gistbench.report.ladder import TaskStatus
from gistbench.report.rates import at_floor, is_discriminative
from gistbench.report.statistics import wilson


def task_status(evidence: Evidence, task: TaskRecord) -> TaskStatus:
    """Judge one task at one length by `full-tuned`, the arm trained with the context visible."""
    discriminative, text = _judge(evidence, task)
    return TaskStatus(
        label=evidence.label(task),
        task=task.name,
        context_tokens=task.context_tokens,
        chance_floor=task.chance_floor,
        discriminative=discriminative,
        text=text,
    )


def task_statuses(evidence: Evidence) -> tuple[TaskStatus, ...]:
    """All tasks at all lengths, in the order of the run."""
    return tuple(task_status(evidence, task) for task in evidence.run.tasks)


def in_words(evidence: Evidence) -> str:
    """Which tasks do not count, in one sentence."""
    statuses = task_statuses(evidence)
    if not statuses:
        return ""
    if all(status.discriminative is None for status in statuses):
        return (
            "Whether a task can tell arms apart is not known: full-tuned did not run."
            if evidence.arm(TUNED) is None
            else "Whether a task can tell arms apart is not known: full-tuned is not complete."
        )
    mute = [status.label for status in statuses if status.discriminative is False]
    unknown = [status.label for status in statuses if status.discriminative is None]
    parts = [
        f"Not discriminative, and in no summary, since full-tuned is no better than guessing: "
        f"{'; '.join(mute)}."
        if mute
        else "Every task whose upper bound is known can tell arms apart: full-tuned is above its "
        "chance floor."
    ]
    if unknown:
        parts.append(f"Not known, full-tuned did not answer: {'; '.join(unknown)}.")
    return " ".join(parts)


def _judge(evidence: Evidence, task: TaskRecord) -> tuple[bool | None, str]:
    arm, samples = evidence.arm(TUNED), evidence.samples(TUNED, task)
    if arm is None:
        return None, "not known, full-tuned did not run"
    if reason := evidence.not_applicable(TUNED, task):
        return None, f"not known, full-tuned cannot take part: {reason}"
    if not samples or evidence.missing(TUNED, task):
        return None, "not known, full-tuned did not answer all of it"
    hits, n = exact(samples), len(samples)
    floor = format_percent(task.chance_floor)
    rate = f"full-tuned is right in {interval_text(wilson(hits, n))}, n = {n:,}"
    if is_discriminative(hits, n, task.chance_floor):
        return True, f"{rate}; above the chance floor of {floor}"
    where = "at" if at_floor(hits, n, task.chance_floor) else "below"
    return False, f"not discriminative: {rate}; {where} its chance floor of {floor}"
