"""What a gate found: one finding for each thing it looked at, and the verdict of all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from gistbench.records import Record

Verdict = Literal["pass", "regression", "refused", "inconclusive", "not compared"]
Check = Literal[
    "controls",
    "accuracy",
    "cache bytes",
    "weights",
    "allocated memory",
    "device memory",
    "time",
    "criteria",
    "claims",
]

NOT_MEASURED = "not measured"

EXIT_CODES: dict[Verdict, int] = {"pass": 0, "regression": 1, "refused": 2, "inconclusive": 3}
SEVERITY: tuple[Verdict, ...] = ("regression", "refused", "inconclusive", "pass")
"""The first of these among the findings is the verdict of the run: what is shown to be worse stays
so, whatever else could not be looked at."""


class Finding(Record):
    """One thing that was looked at.

    Attributes:
        check: What kind of thing.
        subject: The arm, criterion or claim; with the task where there is one.
        verdict: ``not compared`` where there was nothing to compare, which decides nothing.
        text: The figures and the reason, as a sentence without its full stop.
        before, after: The figures of baseline and run as they are shown; empty without one.
        n_needed: For ``inconclusive``: observations that would decide if what was seen stays.
        counted: What `n_needed` counts, in the plural.
    """

    check: Check
    subject: str
    verdict: Verdict
    text: str
    before: str = ""
    after: str = ""
    n_needed: int | None = None
    counted: str = ""


class GateReport(Record):
    """The outcome of a gate: `gate.json`.

    Attributes:
        run: The run directory.
        baseline: Name of the baseline, with the date it was accepted; None where none was asked.
        policy: Where the policy stands.
        notes: What differs between baseline and run and does not decide: versions, new cells.
    """

    schema_version: Literal[1] = 1
    run: str
    baseline: str | None
    policy: str
    verdict: Verdict
    exit_code: int
    headline: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """The verdict of a run from its findings; without any that decides, it is refused."""
    found = {finding.verdict for finding in findings}
    return next((verdict for verdict in SEVERITY if verdict in found), "refused")
