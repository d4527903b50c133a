"""The files that a gate leaves: JSON for machines, JUnit XML for CI, Markdown for people."""

from __future__ import annotations

from pathlib import Path

from gistbench.gate.findings import GateReport
from gistbench.gate.junit import junit
from gistbench.gate.shown import markdown
from gistbench.storage import write_atomically, write_json

JSON_FILE, JUNIT_FILE, MARKDOWN_FILE = "gate.json", "gate.xml", "gate.md"


def write_reports(report: GateReport, folder: Path) -> None:
    """Write all three, each whole or not at all.

    Raises:
        UsageError: The folder cannot be written.
    """
    write_json(folder / JSON_FILE, report)
    write_atomically(folder / JUNIT_FILE, junit(report))
    write_atomically(folder / MARKDOWN_FILE, markdown(report))
