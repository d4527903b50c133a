"""A gate's report for people: a table in the terminal, and Markdown for a step summary."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gistbench.gate.findings import NOT_MEASURED, SEVERITY, Finding, GateReport, Verdict
from gistbench.report.page.visible_text import visible

STYLE: dict[Verdict, str] = {
    "pass": "bold green",
    "regression": "bold red",
    "refused": "bold magenta",
    "inconclusive": "yellow",
    "not compared": "dim",
}
ORDER: tuple[Verdict, ...] = (*SEVERITY, "not compared")
"""The worst first, as everywhere in a report."""


def shown_verdict(finding: Finding) -> str:
    """A verdict in the words that fit what was asked."""
    if finding.check != "claims":
        return finding.verdict
    if finding.verdict == "inconclusive" and finding.after == NOT_MEASURED:
        return NOT_MEASURED
    return {"pass": "met", "regression": "not met"}.get(finding.verdict, finding.verdict)


def shown_text(finding: Finding) -> str:
    """The reason, with what would decide where nothing is decided."""
    if finding.n_needed is None:
        return visible(finding.text)
    return visible(f"{finding.text}; about {finding.n_needed:,} {finding.counted} would decide")


def table(report: GateReport, *, everything: bool = False) -> Group:
    """The report as it is printed.

    Args:
        report: What was found.
        everything: Show what passed as well, line by line.
    """
    # Two columns, so that a reason is read in a CI log of 80 characters too.
    rows = Table(box=box.SIMPLE_HEAD)
    rows.add_column("verdict", no_wrap=True)
    rows.add_column("of", overflow="fold")
    for finding in _in_order(report.findings):
        quiet = finding.verdict == "not compared" or (
            finding.verdict == "pass" and finding.check != "claims" and not everything
        )
        if quiet:
            continue
        asked = "asked" if finding.check == "claims" else "before"
        values = [
            f"{name} {visible(value)}"
            for name, value in ((asked, finding.before), ("now", finding.after))
            if value
        ]
        rows.add_row(
            Text(shown_verdict(finding), style=STYLE[finding.verdict]),
            Text.assemble(
                (f"{finding.check}: {visible(finding.subject)}", "bold"),
                "\n" + ", ".join(values) if values else "",
                ("\n" + shown_text(finding), "dim"),
            ),
        )
    against = f" against {report.baseline}" if report.baseline else ""
    head = Text(visible(f"{report.run}{against}, by {report.policy}"))
    parts: list[RenderableType] = [head, *([rows] if rows.row_count else [])]
    parts += [Text(line, style="dim") for line in _not_compared(report.findings)]
    parts += [Text(visible(f"note: {note}"), style="dim") for note in report.notes]
    last = Text.assemble(
        (report.verdict.upper(), STYLE[report.verdict]), visible(f": {report.headline}")
    )
    return Group(*parts, last)


def markdown(report: GateReport) -> str:
    """The report for GitHub's step summary or a comment; what passed is folded away."""
    against = f" against {report.baseline}" if report.baseline else ""
    lines = [
        f"### gistbench gate: {report.verdict.upper()}",
        "",
        f"{_escaped(report.run)}{_escaped(against)}, by {_escaped(report.policy)}. "
        f"{_escaped(report.headline)}.",
        "",
    ]
    ordered = _in_order(report.findings)
    told = [found for found in ordered if found.verdict not in ("pass", "not compared")]
    rest = [found for found in ordered if found.verdict in ("pass", "not compared")]
    if told:
        lines += [*_rows(told), ""]
    if rest:
        summary = f"<details><summary>{len(rest):,} passed or not compared</summary>"
        lines += [summary, "", *_rows(rest), "", "</details>", ""]
    lines += [f"* {_escaped(note)}" for note in report.notes]
    return "\n".join(lines).rstrip() + "\n"


def _rows(findings: Sequence[Finding]) -> list[str]:
    cells = [
        (
            found.check,
            found.subject,
            shown_verdict(found),
            found.before,
            found.after,
            shown_text(found),
        )
        for found in findings
    ]
    head = ["| check | of | verdict | baseline | run | why |", "|---|---|---|---|---|---|"]
    return head + ["| " + " | ".join(map(_escaped, row)) + " |" for row in cells]


def _not_compared(findings: Sequence[Finding]) -> list[str]:
    """A line for each check that had nothing to compare, and why."""
    why: dict[tuple[str, str], list[str]] = {}
    for found in findings:
        if found.verdict == "not compared":
            why.setdefault((found.check, found.text), []).append(found.subject)
    return [
        visible(f"not compared: {check} of {'; '.join(subjects)}: {text}")
        for (check, text), subjects in why.items()
    ]


def _in_order(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda found: ORDER.index(found.verdict))


def _escaped(text: str) -> str:
    """Text that Markdown and HTML leave as it is."""
    for mark, shown in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(mark, shown)
    for mark in "\\`*_|[]":
        text = text.replace(mark, "\\" + mark)
    return visible(text)
