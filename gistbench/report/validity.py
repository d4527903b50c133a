"""Can this run be believed? Checks that stand above the score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gistbench.metrics import format_percent
from gistbench.records import ArmRecord
from gistbench.report.card import SEVERITY, Check
from gistbench.report.controls import control_findings, exact, grouped_controls
from gistbench.report.evidence import PASSKEY_FAMILY, Evidence
from gistbench.report.measured import OWN_HAYSTACK
from gistbench.report.shown import Line

SCORER_GAP = 0.02
LENGTH_TOLERANCE = 0.01
MAX_IN_A_LINE = 4


def validity_checks(evidence: Evidence) -> tuple[Check, ...]:
    """All checks of a run, each control on each task by itself, controls first."""
    return (*(found.check for found in control_findings(evidence)), *_other_checks(evidence))


def shown_checks(evidence: Evidence) -> tuple[Check, ...]:
    """The same for a reader: a row per control, the worst first."""
    checks = (*grouped_controls(control_findings(evidence)), *_other_checks(evidence))
    return tuple(sorted(checks, key=lambda check: SEVERITY.index(check.status)))


def blocking_reason(evidence: Evidence, *tasks: str) -> str | None:
    """Why the gist arm's scores on these tasks cannot pass in this run; None when they can.

    A leak anywhere blocks: a mechanism that leaks on one task is not trusted on another.

    Args:
        evidence: The run.
        *tasks: Labels of the tasks (`Evidence.label`).
    """
    for check in validity_checks(evidence):
        concerns = check.task is None or check.task in tasks
        if check.status == "INVALID-LEAK" or (check.blocks and concerns):
            return f"{check.status}: {check.text}"
    return None


def _other_checks(evidence: Evidence) -> tuple[Check, ...]:
    return (*_score_checks(evidence), *_sample_checks(evidence), *_run_checks(evidence))


def _listed(found: Sequence[str], otherwise: str) -> tuple[str, tuple[Line, ...]]:
    """Findings in one line, or, where they are many, the first in it and the others behind it."""
    if len(found) <= MAX_IN_A_LINE:
        return "; ".join(found) or otherwise, ()
    return f"{found[0]}; and {len(found) - 1:,} more", tuple(
        Line(label="", text=text) for text in found[1:]
    )


def _score_checks(evidence: Evidence) -> Iterator[Check]:
    """Scores against each other, and against the raw outputs."""
    gaps: list[tuple[float, str]] = []
    unfounded = []
    for (arm, cell), samples in evidence.groups.items():
        task = evidence.label_of(cell)
        strict = exact(samples) / len(samples)
        loose = sum(s.scores.get("contains", s.scores["exact_match"]) for s in samples)
        gap = abs(loose / len(samples) - strict)
        if gap > SCORER_GAP:
            text = (
                f"{arm} on {task}: exact {format_percent(strict)}, "
                f"contained {format_percent(loose / len(samples))}, n = {len(samples):,}"
            )
            gaps.append((gap, text))
        if cell.task.startswith(PASSKEY_FAMILY):
            right = [s for s in samples if s.scores["exact_match"] == 1]
            wrong = sum(s.expected not in s.output for s in right)
            if wrong:
                unfounded.append(f"{wrong:,} of {len(samples):,} in {arm} on {task}")
    widest_first = [text for _, text in sorted(gaps, key=lambda found: -found[0])]
    text, details = _listed(widest_first, "in every arm and task")
    yield Check(
        id="scorers",
        title="Strict and loose scoring agree within 2 points",
        status="WARNING" if gaps else "OK",
        text=text,
        details=details,
    )
    text, details = _listed(unfounded, "checked against every raw passkey output")
    yield Check(
        id="outputs",
        title="Answers scored as right hold the key",
        status="INVALID" if unfounded else "OK",
        text=text,
        details=details,
        blocks=bool(unfounded),
    )


def _sample_checks(evidence: Evidence) -> Iterator[Check]:
    """The samples themselves: distinct, the same in every arm, within the trained length."""
    repeated, differing = [], []
    for (arm, cell), samples in evidence.groups.items():
        task, label = evidence.record(cell), evidence.label_of(cell)
        prompts = {sample.prompt_sha256 for sample in samples}
        if len(prompts) < len(samples):
            repeated.append(f"{len(samples) - len(prompts):,} in {arm} on {label}")
        reference = {sample.prompt_sha256 for sample in evidence.samples("gist", task)}
        whole = evidence.missing(arm, task) <= 0 and evidence.missing("gist", task) <= 0
        if reference and whole and prompts != reference:
            differing.append(f"{arm} on {label}")
    text, details = _listed(repeated, "all prompts of an arm differ")
    yield Check(
        id="distinct_prompts",
        title="No prompt is counted twice",
        status="INVALID" if repeated else "OK",
        text=text,
        details=details,
        blocks=bool(repeated),
    )
    text, details = _listed(differing, "equal by hash")
    yield Check(
        id="same_prompts",
        title="Every arm answered the same prompts",
        status="WARNING" if differing else "OK",
        text=text,
        details=details,
    )
    checkpoint = evidence.run.checkpoint
    if checkpoint is not None:
        limit = checkpoint.max_trained_context_tokens
        longest = max((s.context_tokens for s in evidence.samples("gist")), default=0)
        within = longest > limit and longest <= limit * (1 + LENGTH_TOLERANCE)
        yield Check(
            id="trained_length",
            title="Contexts no longer than in training",
            status="WARNING" if longest > limit * (1 + LENGTH_TOLERANCE) else "OK",
            text=f"longest here {longest:,} tokens, in training {limit:,}"
            + (f"; up to {100 * LENGTH_TOLERANCE:g} % more is allowed" if within else ""),
        )


def _run_checks(evidence: Evidence) -> Iterator[Check]:
    """The run as a whole: complete, from a known commit, without warnings."""
    arms: tuple[ArmRecord, ...] = evidence.run.arms
    open_ends = [text for arm in arms if (text := evidence.incomplete(arm))]
    text, details = _listed(open_ends, f"{len(arms)} arms")
    yield Check(
        id="complete",
        title="Every arm is complete",
        status="WARNING" if open_ends else "OK",
        text=text,
        details=details,
    )
    commit, dirty = evidence.run.provenance.git_commit, evidence.run.provenance.git_dirty
    known = f"commit {commit}" if commit else "unknown: not run from a git checkout"
    yield Check(
        id="commit",
        title="The code is a commit",
        status="WARNING" if dirty or dirty is None else "OK",
        text=f"{known}, with uncommitted changes" if dirty else known,
    )
    own = [evidence.label(t) for t in evidence.run.tasks if OWN_HAYSTACK in t.version]
    if own:
        text, details = _listed(own, "")
        yield Check(
            id="own_haystack",
            title="Needles lie in the shipped haystack",
            status="WARNING",
            text=f"a user's own texts hide them, which training may have seen: {text}",
            details=details,
        )
    warned: dict[str, list[str]] = {}
    for arm in arms:
        for warning in arm.warnings:
            warned.setdefault(warning, []).append(arm.name)
    for warning, names in warned.items():
        title = f"Warning of {'arms' if len(names) > 1 else 'arm'} {', '.join(names)}"
        yield Check(id="arm_warning", title=title, status="WARNING", text=warning)
