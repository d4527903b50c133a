"""A comparison of runs as an HTML page and as Markdown."""

from __future__ import annotations

from gistbench.report.compare.records import Comparison
from gistbench.report.page.pages import fill_html, fill_markdown


def compare_html(found: Comparison) -> str:
    """One self-contained file: no script, no network."""
    return fill_html("compare.html.j2", found=found)


def compare_markdown(found: Comparison) -> str:
    """The same figures for a pull request."""
    return fill_markdown("compare.md.j2", found=found)
