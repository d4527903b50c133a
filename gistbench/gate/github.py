"""What GitHub Actions shows of a gate: annotations on the run, and a step summary.

Workflow commands are lines on standard output, as GitHub documents them under "Workflow commands
for GitHub Actions".
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from gistbench.errors import UsageError
from gistbench.gate.findings import Finding, GateReport, Verdict
from gistbench.gate.shown import ORDER, markdown, shown_text, shown_verdict
from gistbench.report.page.visible_text import visible

MOST_ANNOTATIONS = 10
"""GitHub shows so many errors, and as many warnings, of a step; the last line says what is left."""

Level = Literal["error", "warning"]
LEVELS: dict[Verdict, Level] = {
    "regression": "error",
    "refused": "error",
    "inconclusive": "warning",
}


def annotated(report: GateReport) -> list[str]:
    """A workflow command for each finding that does not pass, the worst first."""
    told = sorted(
        (found for found in report.findings if found.verdict in LEVELS),
        key=lambda found: ORDER.index(found.verdict),
    )
    lines = [_annotation(found) for found in told[:MOST_ANNOTATIONS]]
    if len(told) > MOST_ANNOTATIONS:
        rest = len(told) - MOST_ANNOTATIONS
        lines.append(_command("warning", "gistbench gate", f"{rest:,} more are in the summary"))
    if not told and report.verdict in LEVELS:
        lines.append(_command(LEVELS[report.verdict], "gistbench gate", report.headline))
    return lines


def tell_github(report: GateReport, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Append to the step summary where there is one.

    Args:
        report: What was found.
        environment: The process's variables.

    Returns:
        Lines for standard output; none outside GitHub Actions.

    Raises:
        UsageError: The summary's file cannot be written.
    """
    if summary := environment.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(markdown(report) + "\n")
        except OSError as error:
            raise UsageError(
                f"GITHUB_STEP_SUMMARY names {summary}, which cannot be written "
                f"({(error.strerror or '').lower()}); unset it outside GitHub Actions"
            ) from error
    return annotated(report) if environment.get("GITHUB_ACTIONS") == "true" else []


def _annotation(finding: Finding) -> str:
    title = f"{finding.check}, {finding.subject}: {shown_verdict(finding)}"
    return _command(LEVELS[finding.verdict], title, shown_text(finding))


def _command(level: Level, title: str, text: str) -> str:
    return f"::{level} title={_property(visible(title))}::{_data(visible(text))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
