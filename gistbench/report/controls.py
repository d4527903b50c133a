"""The two controls, on every task: do answers come from the gists, and from nothing else?

A gist arm that is right although its gists belong to another document does not answer from gists;
one that is right without any document is guessing well. Either makes its accuracy meaningless.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gistbench.metrics import format_percent
from gistbench.records import SampleRecord, TaskRecord
from gistbench.report.card import SEVERITY, Check, CheckStatus
from gistbench.report.evidence import Evidence, Samples
from gistbench.report.shown import Line
from gistbench.report.statistics import Estimate, wilson, wilson_n_needed

CONTROL_LIMIT = 0.01

CONTROLS = {
    "swapped": "Swapped gists: another document's gists must not know this document's key",
    "none": "No document: without one, nothing is known",
}

Kind = Literal["clean", "unseen", "guessing", "leak", "unusable"]

_KINDS: dict[Kind, str] = {
    "clean": "clean on {}",
    "unseen": "no leak seen on {}, with too few samples to show less than 1 %",
    "guessing": "within reach of guessing on {}",
    "unusable": "missing or no control on {}",
}


class ControlVerdict(NamedTuple):
    """What one control says of one task.

    Attributes:
        kind: ``clean``: its whole interval is within 1 %. ``unseen``: its rate is, its interval is
            not. ``guessing``: its interval reaches the chance floor. ``unusable``: it was not run,
            not finished, or was not what it should be.
    """

    status: CheckStatus
    text: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class ControlFinding:
    """One control on one task. `excess` is its rate above the chance floor, None without one."""

    control: str
    label: str
    verdict: ControlVerdict
    excess: float | None

    @property
    def check(self) -> Check:
        """As a check of its own."""
        return Check(
            id=f"control_{self.control}",
            title=CONTROLS[self.control],
            status=self.verdict.status,
            text=f"{self.control} on {self.label}: {self.verdict.text}",
            task=self.label,
            blocks=self.verdict.status != "OK",
        )


def control_verdict(hits: int, n: int, chance_floor: float) -> ControlVerdict:
    """Judge a control arm that should know nothing.

    Args:
        hits: Samples it answered exactly right.
        n: Samples, more than 0.
        chance_floor: The task's rate of right guesses.

    Returns:
        OK when its rate is at most 1 % or its interval reaches the floor, else INVALID-LEAK; with
        the sentence to it.
    """
    found = wilson(hits, n)
    rate = f"right in {hits:,} of {n:,} ({interval_text(found)})"
    if found.value <= CONTROL_LIMIT:
        needed = wilson_n_needed(found.value, CONTROL_LIMIT)
        if found.high <= CONTROL_LIMIT or needed is None:
            return ControlVerdict("OK", f"{rate}: clean", "clean")
        text = f"{rate}: no leak seen; {needed:,} samples would show that it is under 1 %"
        return ControlVerdict("OK", text, "unseen")
    if found.low <= chance_floor:
        text = f"{rate}: within reach of guessing, {format_percent(chance_floor)}"
        return ControlVerdict("OK", text, "guessing")
    return ControlVerdict(
        "INVALID-LEAK",
        f"{rate}, more than 1 % and more than guessing ({format_percent(chance_floor)}): "
        "answers come from somewhere else than this document's gists",
        "leak",
    )


def interval_text(found: Estimate) -> str:
    """A rate with its interval, in words."""
    low, high = format_percent(found.low), format_percent(found.high)
    return f"{format_percent(found.value)}, Wilson {low} to {high}"


def exact(samples: Samples) -> int:
    """How many samples are strictly and exactly right."""
    return sum(sample.scores["exact_match"] == 1 for sample in samples)


def control_findings(evidence: Evidence) -> tuple[ControlFinding, ...]:
    """The two controls on every task, at every length, that the gist arm was to answer."""
    if evidence.arm("gist") is None:
        return ()
    return tuple(
        _finding(evidence, name, task)
        for task in evidence.run.tasks
        if evidence.was_asked("gist", task)
        for name in CONTROLS
    )


def _finding(evidence: Evidence, name: str, record: TaskRecord) -> ControlFinding:
    label, floor = evidence.label(record), record.chance_floor
    arm, samples = evidence.arm(name), evidence.samples(name, record)
    if record.control_floor is not None:
        # Saying that there is no answer is right in the other samples, and no leak.
        samples = tuple(sample for sample in samples if sample.needle_depth is not None)
        floor = record.control_floor
    if arm is None or not samples:
        missing = "this control was not run, so a leak cannot be excluded"
        return ControlFinding(name, label, ControlVerdict("MISSING", missing, "unusable"), None)
    verdict = control_verdict(exact(samples), len(samples), floor)
    excess = exact(samples) / len(samples) - floor
    incomplete = evidence.incomplete(arm, record)
    if verdict.status == "OK" and incomplete:
        verdict = ControlVerdict("MISSING", incomplete, "unusable")
    elif name == "swapped":
        what = "key" if record.name.startswith("niah") else "answer"
        verdict = _with_donors(verdict, samples, evidence.samples("gist", record), what)
    return ControlFinding(name, label, verdict, excess)


def _with_donors(
    verdict: ControlVerdict, samples: Samples, gist: Samples, what: str
) -> ControlVerdict:
    """The verdict on swapped gists, if they were, with how often the answer followed them."""
    donors = {sample.sample_id: sample for sample in gist}
    fault = next((f for f in (_donor_fault(s, donors) for s in samples) if f), None)
    if fault:
        return ControlVerdict("INVALID", f"not a control, {fault}", "unusable")
    followed = sum(donors[str(s.donor_sample_id)].expected in s.output for s in samples)
    states = f"it states the other document's {what} in {followed:,} of {len(samples):,}"
    return verdict._replace(text=f"{verdict.text}; {states}")


def _donor_fault(sample: SampleRecord, donors: dict[str, SampleRecord]) -> str | None:
    donor = donors.get(sample.donor_sample_id or "")
    if donor is None:
        return f"sample {sample.sample_id[:80]} names no donor that the gist arm answered"
    if donor.sample_id == sample.sample_id or donor.expected == sample.expected:
        return f"sample {sample.sample_id[:80]} got gists with its own answer"
    return None


def grouped_controls(findings: Sequence[ControlFinding]) -> tuple[Check, ...]:
    """A row per control, with its worst task in words and the others behind it.

    A task with a leak keeps a row of its own: nothing else is said in its line.
    """
    leaks = [found.check for found in findings if found.verdict.status == "INVALID-LEAK"]
    rows = []
    for name in CONTROLS:
        rest = [f for f in findings if f.control == name and f.verdict.status != "INVALID-LEAK"]
        if len(rest) == 1:
            rows.append(rest[0].check)
        elif rest:
            rows.append(_group(name, rest))
    return (*leaks, *rows)


def _group(name: str, findings: Sequence[ControlFinding]) -> Check:
    def badness(found: ControlFinding) -> tuple[int, float]:
        return -SEVERITY.index(found.verdict.status), found.excess or 0.0

    worst = max(findings, key=badness)
    status = worst.verdict.status
    counts = ", ".join(_counts(found.verdict.kind for found in findings))
    return Check(
        id=f"control_{name}",
        title=CONTROLS[name],
        status=status,
        text=f"{name} on {len(findings)} tasks: {counts}. Worst, {worst.label}: "
        f"{worst.verdict.text}",
        details=tuple(
            Line(label=found.label, text=found.verdict.text)
            for found in findings
            if found is not worst
        ),
        details_title=f"the other {len(findings) - 1} tasks",
        blocks=status != "OK",
    )


def _counts(kinds: Iterable[Kind]) -> Iterable[str]:
    found = list(kinds)
    for kind, words in _KINDS.items():
        if kind in found:
            yield words.format(found.count(kind))
