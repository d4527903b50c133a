"""Markdown that reads the same on a code host and on the site."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

WRITTEN = "Written by `python -m docs.tools.reference`; a test holds this page against the code."


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with one line for each row."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(_cell(text) for text in row)} |" for row in rows]
    return "\n".join(lines)


def page(title: str, *parts: str) -> str:
    """A whole page: its title, where it comes from, its parts."""
    return "\n\n".join((f"# {title}", WRITTEN, *parts)) + "\n"


def code(text: object) -> str:
    """Inline code; nothing for nothing."""
    return f"`{text}`" if str(text) else ""


def fenced(text: str, language: str) -> str:
    """A block of code."""
    return f"```{language}\n{text.strip()}\n```"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")
