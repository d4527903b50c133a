"""Answers kept on disk, so that a killed run goes on at the sample where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from gistbench.evaluation.engine import Response
from gistbench.storage import cannot_write


def answer_key(identity: dict[str, Any], prompt_hashes: Sequence[str]) -> str:
    """Key of one batch: weights, precision and settings, and exactly these prompts in this order.

    lm-eval's own cache leaves the model out of its key and would return one arm's answers as
    another's.
    """
    text = json.dumps([identity, list(prompt_hashes)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerFile:
    """An append-only JSONL file of answered batches; a line that was cut short is dropped,
    with all that follows it.

    Files of other processes may stand beside it. They are read and never changed.
    """

    def __init__(self, path: Path, beside: Callable[[], Iterable[Path]] = tuple) -> None:
        """Read what is there.

        Args:
            path: The file.
            beside: Lists files of other processes, as they are when it is called.
        """
        self.path = path
        self._beside = beside
        self._batches, size = _whole_lines(path)
        if path.is_file() and size != path.stat().st_size:
            # Never emptied first: a full disk, or a kill here, must not lose whole lines.
            os.truncate(path, size)
        self.read_beside()

    def read_beside(self) -> None:
        """Read what other processes have answered by now."""
        for path in self._beside():
            if path != self.path:
                self._batches = _whole_lines(path)[0] | self._batches

    def get(self, key: str) -> list[Response] | None:
        """The responses of a batch, if it was answered before."""
        return self._batches.get(key)

    def put(self, key: str, responses: list[Response]) -> None:
        """Keep the responses of a batch, on disk before anything goes on.

        Raises:
            UsageError: The disk is full or cannot be written.
        """
        entry = {"key": key, "responses": [item.model_dump(mode="json") for item in responses]}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._batches[key] = responses


def _whole_lines(path: Path) -> tuple[dict[str, list[Response]], int]:
    """Batches in a file until a line that is not whole, and the bytes that they take."""
    batches: dict[str, list[Response]] = {}
    size = 0
    if not path.is_file():
        return batches, size
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            entry = json.loads(line)
            responses = [Response.model_validate(item) for item in entry["responses"]]
        except (ValueError, TypeError, KeyError):
            break
        if not line.endswith(b"\n"):
            break
        size += len(line)
        batches[entry["key"]] = responses
    return batches, size
