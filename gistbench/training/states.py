"""The states of a training on disk: which is complete, and how far it had come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gistbench.errors import UsageError

CURRICULUM_FILE = "curriculum.json"
"""Written last: a state without it was cut short."""


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run, if it has one."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{CURRICULUM_FILE}")]
    return max(complete, key=lambda path: int(path.name.split("-")[1]), default=None)


def progress_of(checkpoint: Path) -> dict[str, Any]:
    """Curriculum, counts and number of processes of a complete checkpoint."""
    found: dict[str, Any] = json.loads((checkpoint / CURRICULUM_FILE).read_text(encoding="utf-8"))
    return found


def require_same_processes(checkpoint: Path, processes: int) -> None:
    """Refuse to go on with other processes than wrote a checkpoint, which holds their states.

    Raises:
        UsageError: Names both numbers.
    """
    wrote = progress_of(checkpoint).get("processes", 1)  # older ones knew one alone
    if wrote != processes:
        raise UsageError(
            f"{checkpoint} was written by a training in {wrote} process"
            f"{'es' if wrote > 1 else ''}, and this one has {processes}; start {wrote} again, or "
            "choose another --output"
        )
