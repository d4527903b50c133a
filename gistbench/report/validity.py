"""Can this run be believed? Checks that stand above the score.

A gist arm that is right although its gists belong to another document does not answer from gists;
one that is right without any document is guessing well. Either makes its accuracy meaningless.
"""

from __future__ import annotations

from collections.abc import Iterator

from gistbench.metrics import format_percent
from gistbench.records import ArmRecord, SampleRecord, TaskRecord
from gistbench.report.card import Check, CheckStatus
from gistbench.report.evidence import PASSKEY_FAMILY, Evidence, Samples
from gistbench.report.statistics import Estimate, wilson, wilson_n_needed

CONTROL_LIMIT = 0.01
SCORER_GAP = 0.02
LENGTH_TOLERANCE = 0.01

CONTROLS = {
    "swapped": "Swapped gists: another document's gists must not know this document's key",
    "none": "No document: without one, nothing is known",
}


def validity_checks(evidence: Evidence) -> tuple[Check, ...]:
    """All checks of a run, controls first."""
    return (
        *control_checks(evidence),
        *_score_checks(evidence),
        *_sample_checks(evidence),
        *_run_checks(evidence),
    )


def blocking_reason(evidence: Evidence, task: str) -> str | None:
    """Why the gist arm's accuracy on a task cannot pass in this run; None when it can.

    A leak anywhere blocks: a mechanism that leaks on one task is not trusted on another.
    """
    for check in validity_checks(evidence):
        concerns = check.task in (None, task)
        if check.status == "INVALID-LEAK" or (check.blocks and concerns):
            return f"{check.status}: {check.text}"
    return None


def control_verdict(hits: int, n: int, chance_floor: float) -> tuple[CheckStatus, str]:
    """Judge a control arm that should know nothing.

    Args:
        hits: Samples it answered exactly right.
        n: Samples, more than 0.
        chance_floor: The task's rate of right guesses.

    Returns:
        OK when its rate is at most 1 % or its interval reaches the floor, else INVALID-LEAK; and
        the sentence to it.
    """
    found = wilson(hits, n)
    rate = f"right in {hits:,} of {n:,} ({interval_text(found)})"
    if found.value <= CONTROL_LIMIT:
        needed = wilson_n_needed(found.value, CONTROL_LIMIT)
        if found.high <= CONTROL_LIMIT or needed is None:
            return "OK", f"{rate}: clean"
        return "OK", f"{rate}: no leak seen; {needed:,} samples would show that it is under 1 %"
    if found.low <= chance_floor:
        return "OK", f"{rate}: within reach of guessing, {format_percent(chance_floor)}"
    return (
        "INVALID-LEAK",
        f"{rate}, more than 1 % and more than guessing ({format_percent(chance_floor)}): "
        "answers come from somewhere else than this document's gists",
    )


def interval_text(found: Estimate) -> str:
    """A rate with its interval, in words."""
    low, high = format_percent(found.low), format_percent(found.high)
    return f"{format_percent(found.value)}, Wilson {low} to {high}"


def exact(samples: Samples) -> int:
    """How many samples are strictly and exactly right."""
    return sum(sample.scores["exact_match"] == 1 for sample in samples)


def control_checks(evidence: Evidence) -> Iterator[Check]:
    """The two controls on every task that the gist arm answered."""
    if evidence.arm("gist") is None:
        return
    for task in evidence.run.tasks:
        for name, title in CONTROLS.items():
            status, text = _control(evidence, name, task)
            yield Check(
                id=f"control_{name}",
                title=title,
                status=status,
                text=f"{name} on {task.name}: {text}",
                task=task.name,
                blocks=status != "OK",
            )


def _control(evidence: Evidence, name: str, record: TaskRecord) -> tuple[CheckStatus, str]:
    task, floor = record.name, record.chance_floor
    arm, samples = evidence.arm(name), evidence.samples(name, task)
    if record.control_floor is not None:
        # Saying that there is no answer is right in the other samples, and no leak.
        samples = tuple(sample for sample in samples if sample.needle_depth is not None)
        floor = record.control_floor
    if arm is None or not samples:
        return "MISSING", "this control was not run, so a leak cannot be excluded"
    status, text = control_verdict(exact(samples), len(samples), floor)
    incomplete = evidence.incomplete(arm, task)
    if status == "OK" and incomplete:
        return "MISSING", incomplete
    if name != "swapped":
        return status, text
    donors = {sample.sample_id: sample for sample in evidence.samples("gist", task)}
    fault = next((f for f in (_donor_fault(s, donors) for s in samples) if f), None)
    if fault:
        return "INVALID", f"not a control, {fault}"
    followed = sum(donors[str(s.donor_sample_id)].expected in s.output for s in samples)
    return status, f"{text}; it states the other document's key in {followed:,} of {len(samples):,}"


def _donor_fault(sample: SampleRecord, donors: dict[str, SampleRecord]) -> str | None:
    donor = donors.get(sample.donor_sample_id or "")
    if donor is None:
        return f"sample {sample.sample_id[:80]} names no donor that the gist arm answered"
    if donor.sample_id == sample.sample_id or donor.expected == sample.expected:
        return f"sample {sample.sample_id[:80]} got gists with its own answer"
    return None


def _score_checks(evidence: Evidence) -> Iterator[Check]:
    """Scores against each other, and against the raw outputs."""
    gaps, unfounded = [], []
    for (arm, task), samples in evidence.groups.items():
        strict = exact(samples) / len(samples)
        loose = sum(s.scores.get("contains", s.scores["exact_match"]) for s in samples)
        if abs(loose / len(samples) - strict) > SCORER_GAP:
            gaps.append(
                f"{arm} on {task}: exact {format_percent(strict)}, "
                f"contained {format_percent(loose / len(samples))}, n = {len(samples):,}"
            )
        if task.startswith(PASSKEY_FAMILY):
            right = [s for s in samples if s.scores["exact_match"] == 1]
            wrong = sum(s.expected not in s.output for s in right)
            if wrong:
                unfounded.append(f"{wrong:,} of {len(samples):,} in {arm} on {task}")
    yield Check(
        id="scorers",
        title="Strict and loose scoring agree within 2 points",
        status="WARNING" if gaps else "OK",
        text="; ".join(gaps) or "in every arm and task",
    )
    yield Check(
        id="outputs",
        title="Answers scored as right hold the key",
        status="INVALID" if unfounded else "OK",
        text="; ".join(unfounded) or "checked against every raw passkey output",
        blocks=bool(unfounded),
    )


def _sample_checks(evidence: Evidence) -> Iterator[Check]:
    """The samples themselves: distinct, the same in every arm, within the trained length."""
    repeated, differing = [], []
    for (arm, task), samples in evidence.groups.items():
        prompts = {sample.prompt_sha256 for sample in samples}
        if len(prompts) < len(samples):
            repeated.append(f"{len(samples) - len(prompts):,} in {arm} on {task}")
        reference = {sample.prompt_sha256 for sample in evidence.samples("gist", task)}
        whole = evidence.missing(arm, task) <= 0 and evidence.missing("gist", task) <= 0
        if reference and whole and prompts != reference:
            differing.append(f"{arm} on {task}")
    yield Check(
        id="distinct_prompts",
        title="No prompt is counted twice",
        status="INVALID" if repeated else "OK",
        text="; ".join(repeated) or "all prompts of an arm differ",
        blocks=bool(repeated),
    )
    yield Check(
        id="same_prompts",
        title="Every arm answered the same prompts",
        status="WARNING" if differing else "OK",
        text="; ".join(differing) or "equal by hash",
    )
    checkpoint = evidence.run.checkpoint
    if checkpoint is not None:
        limit = checkpoint.max_trained_context_tokens
        longest = max((s.context_tokens for s in evidence.samples("gist")), default=0)
        yield Check(
            id="trained_length",
            title="Contexts no longer than in training",
            status="WARNING" if longest > limit * (1 + LENGTH_TOLERANCE) else "OK",
            text=f"longest here {longest:,} tokens, in training {limit:,}",
        )


def _run_checks(evidence: Evidence) -> Iterator[Check]:
    """The run as a whole: complete, from a known commit, without warnings."""
    arms: tuple[ArmRecord, ...] = evidence.run.arms
    open_ends = [text for arm in arms if (text := evidence.incomplete(arm))]
    yield Check(
        id="complete",
        title="Every arm is complete",
        status="WARNING" if open_ends else "OK",
        text="; ".join(open_ends) or f"{len(arms)} arms",
    )
    commit, dirty = evidence.run.provenance.git_commit, evidence.run.provenance.git_dirty
    known = f"commit {commit}" if commit else "unknown: not run from a git checkout"
    yield Check(
        id="commit",
        title="The code is a commit",
        status="WARNING" if dirty or dirty is None else "OK",
        text=f"{known}, with uncommitted changes" if dirty else known,
    )
    for arm in arms:
        for warning in arm.warnings:
            title = f"Warning of arm {arm.name}"
            yield Check(id="arm_warning", title=title, status="WARNING", text=warning)
