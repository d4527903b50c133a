"""The commands that the documentation shows, as it shows them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHELL = ("sh", "bash", "console")
PROMPT, LEFT_OUT = "$ ", "..."
NEEDS_GPU = "# Needs an NVIDIA GPU"
WRITTEN_FROM_CODE = "docs/reference"
"""Its pages hold usages, no commands."""

_BLOCK = re.compile(r"^```([\w ]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SEPARATORS = ("|", "&&", "||", ";")
_REDIRECTIONS = (">", ">>", "<")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: Relative to the repository.
        place: Where it begins in the page's text.
        language: What stands behind its fence.
    """

    page: str
    place: int
    language: str
    text: str

    @property
    def needs_gpu(self) -> bool:
        """Whether it is marked so."""
        return self.text.startswith(NEEDS_GPU)

    @property
    def command_lines(self) -> list[str]:
        """Whole commands, lines that go on joined, without comments and outputs."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            return [line.removeprefix(PROMPT) for line in lines if line.startswith(PROMPT)]
        return [line for line in lines if line.strip() and not line.startswith("#")]

    @property
    def shown(self) -> list[tuple[str, str]]:
        """Commands of a console, each with the output below it."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        return [(part.split("\n", 1)[0], part.split("\n", 1)[1]) for part in parts]


def pages() -> list[str]:
    """Every page that a reader is shown commands on."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tasks/README.md"]
    names = sorted(path.relative_to(ROOT).as_posix() for path in found)
    return [name for name in names if not name.startswith(WRITTEN_FROM_CODE)]


def text_of(page: str) -> str:
    """A page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """A page's fenced blocks, in their order."""
    return [
        Block(page, found.start(), found[1].strip(), found[2])
        for found in _BLOCK.finditer(text_of(page))
    ]


def files(page: str) -> Iterator[tuple[int, str, str]]:
    """Files that a page has the reader write: where it says so, their names and texts."""
    for found in _FILE.finditer(text_of(page)):
        yield found.start(), found[1], found[2]


def simple_commands(line: str) -> list[list[str]]:
    """The words of each command of a line, pipes and redirections taken apart."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    commands: list[list[str]] = [[]]
    words = iter(reader)
    for word in words:
        if word in _SEPARATORS:
            commands.append([])
        elif word in _REDIRECTIONS:
            next(words)
        else:
            commands[-1].append(word)
    return commands
