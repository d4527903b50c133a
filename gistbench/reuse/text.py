"""The text that is to be compressed, and how a question follows it. Imports no torch.

Text and question meet as in the task `own_jsonl`: the text without the space at its end, a space
and an empty line, the question. The space never joins the text's last word or full stop, so that
each side has the same tokens whatever the other one is.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gistbench.errors import UsageError
from gistbench.models.prompts import split_prompt

STDIN = "-"
SEAM = " \n\n"


@dataclass(frozen=True, slots=True)
class Text:
    """A user's text.

    Attributes:
        name: For messages.
        text: Without white space at its end.
        sha256: Of the bytes as they were given.
    """

    name: str
    text: str
    sha256: str


def read_text(source: str) -> Text:
    """Read a UTF-8 text file, or standard input where it is called ``-``.

    Raises:
        UsageError: There is no such file, or it is empty, binary or not UTF-8.
    """
    name = "standard input" if source == STDIN else source
    try:
        data = sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise UsageError(f"cannot read {name}: {reason}; name a UTF-8 text file") from error
    if (place := data.find(b"\0")) >= 0:
        raise UsageError(
            f"{name} is a binary file (a zero byte at offset {place:,}); name a UTF-8 text file"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not UTF-8 text (byte 0x{data[error.start]:02x} at offset "
            f"{error.start:,}); convert it, for instance with `iconv -t UTF-8`"
        ) from error
    if not text.strip():
        raise UsageError(f"{name} is empty; name a file with text in it")
    return Text(name, text.rstrip(), hashlib.sha256(data).hexdigest())


def require_free(output: Path, *, force: bool) -> None:
    """Refuse an output that is there already; to be asked before any work.

    Raises:
        UsageError: It is there, and `force` is off; or it is a folder.
    """
    if output.is_dir():
        raise UsageError(f"--output {output} is a folder; name a file in it")
    if output.exists() and not force:
        raise UsageError(f"{output} exists; choose another --output or pass --force to replace it")


def text_tokens(tokenizer: Any, text: Text) -> list[int]:
    """Ids of a text, as they stand before any question."""
    return split_prompt(tokenizer, text.text, SEAM + "?").context


def question_tokens(tokenizer: Any, question: str) -> list[int]:
    """Ids of a question, as they follow any text.

    A question that begins with white space brings a seam of its own.

    Raises:
        UsageError: It is empty, or its tokens would depend on the text before it.
    """
    if not question.strip():
        raise UsageError("the question is empty; write one, in quotes")
    asked = question.rstrip() if question[0].isspace() else SEAM + question.rstrip()
    try:
        return split_prompt(tokenizer, ".", asked).question
    except ValueError as error:
        raise UsageError(f"question {question!r} with this tokenizer: {error}") from error
