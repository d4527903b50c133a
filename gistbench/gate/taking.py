"""From a run to what a baseline holds of it. A gate takes the same from the run that it judges."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from gistbench.errors import UsageError
from gistbench.gate.baseline import (
    HASH_DIGITS,
    HASHES_A_LINE,
    OUTCOMES_A_LINE,
    ArmCell,
    Baseline,
    BaselineArm,
    BaselineCell,
    BaselineModel,
    CriterionOutcome,
    HeldMemory,
    Origin,
    RunTimes,
    TimeConditions,
    TimeMetric,
    in_lines,
)
from gistbench.records import ArmRecord, NotMeasured, SteadyState, TaskRecord, Timing
from gistbench.report.controls import control_findings
from gistbench.report.criteria import load_criteria
from gistbench.report.evidence import Evidence, Samples, load_evidence
from gistbench.report.verdicts import judge_run

TIME_FIELDS: dict[TimeMetric, str] = {
    "read the context": "compress_seconds",
    "first token": "first_token_seconds",
}


def take(
    run_dir: Path, *, name: str, reason: str, repeats: Sequence[Path] = ()
) -> tuple[Baseline, Evidence]:
    """Everything that a baseline holds, from a run that is whole.

    Args:
        run_dir: The run.
        name: Of the baseline.
        reason: Why it is accepted.
        repeats: Runs of the same model under the same conditions, whose times alone are taken.

    Raises:
        UsageError: A run is unfinished or broken, or a repeat is of something else.
    """
    evidence = load_evidence(run_dir)
    for record in evidence.run.arms:
        if fault := evidence.incomplete(record):
            raise UsageError(f"{run_dir} is not finished: {fault}")
    run = evidence.run
    timed_with = _conditions(evidence)
    model = _model(evidence)
    timed = [evidence]
    for folder in repeats:
        again = load_evidence(folder)
        if (_model(again), _conditions(again)) != (model, timed_with):
            raise UsageError(
                f"{folder} is no repeat of {run_dir}: another model, checkpoint, device, length, "
                "batch size or number of contexts; repeat the same command"
            )
        timed.append(again)
    created = [found.run.created for found in timed]
    if len(set(created)) < len(created):
        raise UsageError(f"{run_dir} is given twice among its repeats; name each run once")
    baseline = Baseline(
        name=name,
        reason=reason,
        accepted=datetime.now(UTC).isoformat(timespec="seconds"),
        origin=Origin(
            command=run.command,
            created=run.created,
            **run.provenance.model_dump(
                include={
                    "gistbench_version",
                    "git_commit",
                    "git_dirty",
                    "python",
                    "platform",
                    "packages",
                }
            ),
        ),
        model=model,
        criteria={
            verdict.id: CriterionOutcome(outcome=verdict.outcome, grade=verdict.grade)
            for verdict in judge_run(load_criteria(), evidence)
        },
        timed_with=timed_with,
        arms={arm.name: _arm(arm, timed) for arm in run.arms},
        cells=tuple(_cell(evidence, task) for task in run.tasks),
    )
    return baseline, evidence


def require_clean(evidence: Evidence, run_dir: Path) -> None:
    """Refuse to accept a run whose controls leak: nothing may be measured by it.

    Raises:
        UsageError: Names the control.
    """
    for found in control_findings(evidence):
        if found.verdict.status != "OK":
            raise UsageError(
                f"{run_dir} cannot be a baseline: {found.control} on {found.label}: "
                f"{found.verdict.text}; accept a run whose controls are clean"
            )


def _model(evidence: Evidence) -> BaselineModel:
    run = evidence.run
    gist, tuned = run.checkpoint, run.tuned_checkpoint
    return BaselineModel(
        base=run.base.name,
        base_sha256=run.base.fingerprint,
        dtype=run.base.dtype,
        quantization=run.base.quantization,
        checkpoint=gist.name if gist else None,
        checkpoint_sha256=gist.sha256 if gist else None,
        tuned_checkpoint=tuned.name if tuned else None,
        tuned_checkpoint_sha256=tuned.sha256 if tuned else None,
        device_name=run.provenance.device_name,
    )


def _conditions(evidence: Evidence) -> TimeConditions | NotMeasured:
    settings, tokens = evidence.run.settings, evidence.judged_tokens
    if evidence.run.parts:
        return NotMeasured(not_measured="a merged run has no conditions of its own")
    batch_size, contexts = settings.get("batch_size"), settings.get("contexts_held")
    if not isinstance(batch_size, int) or not isinstance(contexts, int) or tokens is None:
        return NotMeasured(not_measured="the run does not say under which conditions it was timed")
    return TimeConditions(batch_size=batch_size, contexts_held=contexts, context_tokens=tokens)


def _cell(evidence: Evidence, task: TaskRecord) -> BaselineCell:
    arms = {arm: evidence.samples(arm, task) for arm in evidence.arm_names}
    arms = {arm: samples for arm, samples in arms.items() if samples}
    hashes = sorted({s.prompt_sha256[:HASH_DIGITS] for samples in arms.values() for s in samples})
    return BaselineCell(
        task=task.name,
        version=task.version,
        split=task.split,
        context_tokens=task.context_tokens,
        seed=task.seed,
        num_samples=len(hashes),
        samples_sha256=task.samples_sha256,
        prompts=in_lines(hashes, HASHES_A_LINE, " "),
        arms={
            arm: _arm_cell(evidence, arm, task, samples, hashes) for arm, samples in arms.items()
        },
    )


def _arm_cell(
    evidence: Evidence, arm: str, task: TaskRecord, samples: Samples, hashes: Sequence[str]
) -> ArmCell:
    right = {s.prompt_sha256[:HASH_DIGITS]: s.scores["exact_match"] == 1 for s in samples}
    if len(right) < len(samples) or len(right) < len(hashes):
        raise UsageError(
            f"{arm} did not answer each prompt of {evidence.label(task)} exactly once, so that its "
            "answers cannot be paired; run the task again with the arms that are to be compared"
        )
    digits = ["1" if right[key] else "0" for key in hashes]
    return ArmCell(
        right=sum(right.values()),
        outcomes=in_lines(digits, OUTCOMES_A_LINE, ""),
        cache_bytes=sum(sample.cache_bytes for sample in samples),
        cache_tokens=sum(sample.cache_tokens for sample in samples),
    )


def _arm(arm: ArmRecord, timed: Sequence[Evidence]) -> BaselineArm:
    return BaselineArm(
        weights=arm.weights,
        weights_bytes=arm.weights_bytes,
        held_one=_held(arm.steady_one),
        held_many=_held(arm.steady_many),
        times=tuple(times for run in timed if (times := run_times(run, arm.name)).seconds),
    )


def _held(state: SteadyState | NotMeasured) -> HeldMemory | NotMeasured:
    if isinstance(state, NotMeasured):
        return state
    return HeldMemory(
        contexts_held=state.contexts_held,
        context_tokens=state.context_tokens,
        allocated_bytes=state.torch_allocated_bytes,
        device_used_bytes=state.device_used_bytes,
    )


def run_times(evidence: Evidence, arm: str) -> RunTimes:
    """The medians of one run's times of one arm; what was not measured is left out.

    One run is one repeat however many samples and rounds it timed: they share the process, the
    clock and the neighbours.
    """
    first = evidence.judged_tasks[0]
    timings = [s.timing for s in evidence.samples(arm, first) if isinstance(s.timing, Timing)]
    seconds: dict[TimeMetric, float] = {}
    for metric, field in TIME_FIELDS.items():
        values = [value for found in timings if (value := getattr(found, field))]
        if values:
            seconds[metric] = median(values)
    record = evidence.arm(arm)
    if record is not None and not isinstance(record.throughput_rounds, NotMeasured):
        steps = [found.seconds / found.decode_steps for found in record.throughput_rounds]
        if steps:
            seconds["decode step"] = median(steps)
    return RunTimes(created=evidence.run.created, seconds=seconds)
