"""The file of a speed record: what was measured is not overwritten, and read though unfinished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gistbench.config import Config
from gistbench.errors import UsageError
from gistbench.speed.records import SpeedRecord
from gistbench.storage import check_writable, read_json


def require_output(output: Path, settings: Config) -> None:
    """Refuse, before anything is measured, an output that cannot be written or is in use.

    Args:
        output: File of the record. An unfinished record of the same settings may lie there.
        settings: What will be measured.

    Raises:
        UsageError: It is a folder, cannot be written, or holds something else.
    """
    if output.is_dir():
        raise UsageError(f"--output {output} is a folder; name a file in it")
    check_writable(output.parent)
    if not output.exists():
        return
    found = _found(output, settings.model_dump(mode="json"))
    if found is not None:
        raise UsageError(f"--output {output} holds {found}; name another file")


def read_speed(file: Path) -> SpeedRecord:
    """Read a record, whole or unfinished.

    Raises:
        UsageError: It cannot be read, or is none.
    """
    try:
        return read_json(file, SpeedRecord)
    except UsageError as error:
        problem = str(error).rpartition("; ")[0] or str(error)
        raise UsageError(
            f"{problem}; name a file that `gistbench speed train` or `gistbench speed decode` wrote"
        ) from error


def _found(output: Path, settings: dict[str, Any]) -> str | None:
    """What would be lost; None for an unfinished record of these settings."""
    try:
        record = read_speed(output)
    except UsageError:
        return "something else than a speed record"
    if record.unfinished is None:
        return "a finished measurement"
    return None if record.settings == settings else "a measurement of other settings, unfinished"
