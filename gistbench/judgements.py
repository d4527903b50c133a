"""What a judge model said of a run: ``judge.jsonl``, a line for every question put to it.

Kept apart from the run's own records: nothing in this file decides anything.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Literal

from gistbench.errors import UsageError
from gistbench.records import Record
from gistbench.storage import cannot_write, parse_record

JUDGE_FILE = "judge.jsonl"


class Judgement(Record):
    """One question to a judge, and its reply.

    Attributes:
        kind: "answer": is this output right? "overall": what does the whole run deserve?
        model: As the endpoint calls it.
        arm, task, sample_id: The sample of an answer; empty for the whole run.
        output_sha256: Hash of the output that was judged; empty for the whole run.
        system, prompt: Both messages, whole.
        reply: The judge's raw text.
        verdict: Of an answer; None where the reply has not the shape that was asked for.
        score: Out of 100, of the whole run; None likewise.
        sentence: The judge's reason for the score.
    """

    schema_version: Literal[1] = 1
    kind: Literal["answer", "overall"]
    model: str
    arm: str = ""
    task: str = ""
    sample_id: str = ""
    output_sha256: str = ""
    system: str
    prompt: str
    reply: str
    verdict: Literal["right", "wrong"] | None = None
    score: float | None = None
    sentence: str = ""

    @property
    def key(self) -> str:
        """What makes it the same question: asked of whom, about which sample, in which words."""
        parts = (self.kind, self.model, self.arm, self.task, self.sample_id)
        return question_key(*parts, self.system, self.prompt)


def question_key(*parts: str) -> str:
    """Hash of what `Judgement.key` names."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_judgements(path: Path) -> list[Judgement]:
    """The judgements of a run, none where there is no file.

    A last line that was cut short is left out.

    Raises:
        UsageError: Another line is broken, with its number.
    """
    return _read(path)[0]


class JudgementFile:
    """``judge.jsonl`` open for more: a line is on disk before anything goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found, size = _read(path)
        self._known = {judgement.key for judgement in found}
        if path.is_file() and size != path.stat().st_size:
            os.truncate(path, size)

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def add(self, judgement: Judgement) -> None:
        """Keep a judgement.

        Raises:
            UsageError: The disk is full or cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(judgement.model_dump_json() + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._known.add(judgement.key)


def _read(path: Path) -> tuple[list[Judgement], int]:
    """Judgements, and how many bytes of the file hold whole lines."""
    if not path.is_file():
        return [], 0
    found, size = [], 0
    try:
        content = path.read_bytes()
        for number, line in enumerate(content.splitlines(keepends=True), start=1):
            if not line.endswith(b"\n"):
                break
            size += len(line)
            if line.strip():
                where = f"{path} line {number}"
                found.append(parse_record(line.decode("utf-8"), Judgement, where))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read ({type(error).__name__}); delete it to judge the run anew"
        ) from error
    return found, size
