"""What a measurement is, and what every measurement of answers asks of its task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gistbench.records import NotMeasured, TaskRecord
from gistbench.report.criteria import Criterion
from gistbench.report.evidence import Evidence
from gistbench.report.shown import Line
from gistbench.report.statistics import Estimate

OWN_HAYSTACK = "+haystack-"
"""In the version of a task whose needles a user's own texts hide."""


@dataclass(frozen=True)
class Measurement:
    """A measured value, ready to be compared with a target.

    Attributes:
        estimate: Value, interval and n; None if there are too few observations for an interval.
        evidence: What was counted, as a sentence.
        counted: What n counts, in the plural.
        needed: Threshold -> the n that would decide against it at the observed rate.
        blocked: Why this run's number cannot pass, however good it is.
        beside: What is shown with it and never decides.
    """

    estimate: Estimate | None
    evidence: str
    counted: str
    needed: Callable[[float], int | None]
    blocked: str | None = None
    beside: tuple[Line, ...] = ()


Measure = Callable[[Criterion, Evidence], Measurement | NotMeasured]


def unfit_task(task: TaskRecord) -> str | None:
    """Why no criterion may be judged on a task as it ran; None when one may."""
    if OWN_HAYSTACK in task.version:
        return (
            f"the haystack of {task.name} was the user's own, which training may have seen; the "
            "criteria are about the shipped tasks"
        )
    if task.split != "test":
        return f"this run used the {task.split} split, which recipes are chosen on"
    if task.generation.get("do_sample") or (task.generation.get("num_beams") or 1) != 1:
        return f"task {task.name} did not decode greedily"
    return None
