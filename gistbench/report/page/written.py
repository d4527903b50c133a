"""A record as JSON, and the page that shows it as HTML and Markdown, side by side in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gistbench.records import Record
from gistbench.storage import check_writable, write_atomically, write_json


@dataclass(frozen=True, slots=True)
class Pages:
    """Where a record and its two pages were written."""

    html: Path
    json: Path
    markdown: Path


def write_pages(folder: Path, name: str, record: Record, *, html: str, markdown: str) -> Pages:
    """Write ``NAME.json``, ``NAME.html`` and ``NAME.md``, each whole or not at all.

    Raises:
        UsageError: The folder cannot be written.
    """
    check_writable(folder)
    html_path, json_path, markdown_path = (
        folder / f"{name}.{end}" for end in ("html", "json", "md")
    )
    write_json(json_path, record)
    write_atomically(html_path, html)
    write_atomically(markdown_path, markdown)
    return Pages(html=html_path, json=json_path, markdown=markdown_path)
