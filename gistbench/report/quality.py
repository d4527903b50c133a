"""The criteria that ask more than a passkey: the whole document, and what it does not hold."""

from __future__ import annotations

import re

from gistbench.records import NotMeasured, SampleRecord, TaskRecord
from gistbench.report.controls import exact, interval_text
from gistbench.report.criteria import Criterion
from gistbench.report.discrimination import task_status
from gistbench.report.evidence import GIST, PASSKEY_FAMILY, TUNED, Evidence, Samples
from gistbench.report.measured import Measurement, unfit_task
from gistbench.report.rates import is_discriminative
from gistbench.report.ratios import paired_rate_ratio, ratio_n_needed
from gistbench.report.shown import Line
from gistbench.report.statistics import paired_difference, wilson, wilson_n_needed
from gistbench.report.validity import blocking_reason

WHOLE_DOCUMENT = ("document_topic", "word_frequency")
ABSENT = "niah_absent"


def measure_understanding(criterion: Criterion, evidence: Evidence) -> Measurement | NotMeasured:
    """Mean rate of gist over that of full-tuned, on the tasks about the whole document."""
    tasks = [task for name in WHOLE_DOCUMENT if (task := evidence.task(name))]
    if not tasks:
        return NotMeasured(not_measured="no task of this run asks about the whole document")
    if len(tasks) < len(WHOLE_DOCUMENT):
        ran = tasks[0].name
        missing = next(name for name in WHOLE_DOCUMENT if name != ran)
        return NotMeasured(not_measured=f"{missing} did not run, and {ran} alone does not decide")
    if reason := next((r for task in tasks if (r := _unfit_for_ratio(evidence, task))), None):
        return NotMeasured(not_measured=reason)
    paired = [
        paired_difference(*(_right(evidence.samples(arm, task)) for arm in (GIST, TUNED)))
        for task in tasks
    ]
    rates = []
    for task in tasks:
        gist, tuned = (evidence.samples(arm, task) for arm in (GIST, TUNED))
        rates.append(
            f"{task.name}: gist right in {exact(gist):,}, full-tuned in {exact(tuned):,} of "
            f"{len(gist):,}"
        )
    blocked = blocking_reason(evidence, *(evidence.label(task) for task in tasks))
    if all(_only_guesses(evidence, task) for task in tasks):
        blocked = blocked or "gist does no better than guessing on either task"
    return Measurement(
        estimate=paired_rate_ratio(paired),
        evidence="; ".join(rates),
        counted="prompts",
        needed=lambda threshold: ratio_n_needed(paired, threshold),
        blocked=blocked,
    )


def _unfit_for_ratio(evidence: Evidence, task: TaskRecord) -> str | None:
    gist, tuned = evidence.arm(GIST), evidence.arm(TUNED)
    if gist is None or not evidence.samples(GIST, task):
        return f"the run has no answers of a gist arm on task {task.name}"
    if tuned is None or not evidence.samples(TUNED, task):
        return (
            f"it is relative to full-tuned, which did not answer {task.name}; train a checkpoint "
            "with --objective full and run again with --tuned-checkpoint"
        )
    if reason := evidence.incomplete(gist, task) or evidence.incomplete(tuned, task):
        return reason
    if set(gist.trained_on) != set(tuned.trained_on):
        return (
            f"full-tuned was trained on {', '.join(tuned.trained_on) or 'unknown data'}, gist on "
            f"{', '.join(gist.trained_on) or 'unknown data'}: not the same data"
        )
    if _right(evidence.samples(GIST, task)).keys() != _right(evidence.samples(TUNED, task)).keys():
        return f"gist and full-tuned answered other prompts of task {task.name}"
    status = task_status(evidence, task)
    if status.discriminative is not True:
        return f"{task.name} has no upper bound to be relative to; {status.text}"
    return unfit_task(task)


def _right(samples: Samples) -> dict[str, bool]:
    return {sample.prompt_sha256: sample.scores["exact_match"] == 1 for sample in samples}


def _only_guesses(evidence: Evidence, task: TaskRecord) -> bool:
    """Whether gist is no better than guessing; being surely worse is no better either."""
    samples = evidence.samples(GIST, task)
    return not is_discriminative(exact(samples), len(samples), task.chance_floor)


def measure_hallucination(criterion: Criterion, evidence: Evidence) -> Measurement | NotMeasured:
    """Share of niah_absent whose answer states a key that the document does not hold."""
    arm, task = evidence.arm(GIST), evidence.task(ABSENT)
    samples = evidence.samples(GIST, task) if task else ()
    if task is None:
        return NotMeasured(
            not_measured="no task of this run asks for what its document does not hold"
        )
    if arm is None or not samples:
        return NotMeasured(not_measured=f"the run has no answers of a gist arm on task {ABSENT}")
    if reason := evidence.incomplete(arm, task) or unfit_task(task):
        return NotMeasured(not_measured=reason)
    empty = [sample for sample in samples if sample.needle_depth is None]
    holding = [sample for sample in samples if sample.needle_depth is not None]
    if not empty or not holding:
        return NotMeasured(
            not_measured=f"{ABSENT} had {len(empty):,} documents without a key and "
            f"{len(holding):,} with one; both are needed"
        )
    invented, wrong = (sum(map(states_wrong_key, found)) for found in (empty, holding))
    found = wilson(invented + wrong, len(samples))
    return Measurement(
        estimate=found,
        evidence=f"{invented:,} of {len(empty):,} answers state a key where none is hidden, "
        f"{wrong:,} of {len(holding):,} a wrong one where one is",
        counted="samples",
        needed=lambda threshold: wilson_n_needed(found.value, threshold),
        blocked=blocking_reason(evidence, evidence.label(task)),
        beside=_elsewhere(evidence),
    )


def states_wrong_key(sample: SampleRecord) -> bool:
    """Whether an answer holds a number that is not the right one.

    Where the right answer is that there is none, any number is.
    """
    return any(number != sample.expected for number in re.findall(r"\d+", sample.output))


def _elsewhere(evidence: Evidence) -> tuple[Line, ...]:
    """Wrong keys on the passkey tasks, which hide one everywhere and decide nothing here."""
    lines = []
    for task in evidence.judged_tasks:
        samples = evidence.samples(GIST, task)
        if task.name.startswith(PASSKEY_FAMILY) and samples:
            wrong = sum(map(states_wrong_key, samples))
            rate = interval_text(wilson(wrong, len(samples)))
            text = f"{wrong:,} of {len(samples):,} ({rate})"
            lines.append(Line(label=f"Wrong keys on {task.name}", text=text))
    return tuple(lines)
