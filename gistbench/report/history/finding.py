"""Which runs lie below a folder, and which of them are the same thing measured again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from gistbench.errors import UsageError
from gistbench.records import RunRecord
from gistbench.report.history.records import SkippedRun
from gistbench.storage import RUN_FILE, WORK_FOLDER, read_json


class Task(NamedTuple):
    """A task as far as its answers depend on it."""

    name: str
    version: str
    context_tokens: int
    num_samples: int
    samples_sha256: str


class Same(NamedTuple):
    """What two runs must share to be the same thing measured again. The checkpoint may change."""

    base: str
    precision: tuple[str, str]
    tasks: tuple[Task, ...]
    arms: frozenset[str]


@dataclass(frozen=True)
class FoundRun:
    """A run whose record could be read. `label` is its folder below the one asked for."""

    label: str
    folder: Path
    record: RunRecord
    created: datetime


def find_runs(folder: Path) -> tuple[list[FoundRun], list[SkippedRun]]:
    """Every run below a folder, the oldest first, and what could not be read.

    A run inside another run's folder is a part of that run and not looked at.

    Raises:
        UsageError: There is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise UsageError(
            f"there is no folder {folder}; name one that run directories lie in, for instance "
            "results"
        )
    found, skipped = [], []
    for path in _run_folders(folder):
        label = "." if path == folder else str(path.relative_to(folder))
        if not (path / RUN_FILE).is_file():
            skipped.append(SkippedRun(folder=label, reason=f"not finished: it has no {RUN_FILE}"))
            continue
        try:
            record = read_json(path / RUN_FILE, RunRecord)
            found.append(FoundRun(label, path, record, time_of(record.created)))
        except UsageError as error:
            skipped.append(SkippedRun(folder=label, reason=str(error)))
        except ValueError:
            reason = f"{RUN_FILE} names no time at which it was created"
            skipped.append(SkippedRun(folder=label, reason=reason))
    if not found:
        why = f" ({skipped[0].folder}: {skipped[0].reason})" if skipped else ""
        raise UsageError(
            f"{folder} holds no finished run{why}; make one with `gistbench run --output "
            f"{folder}/NAME`, or name another folder"
        )
    return sorted(found, key=lambda run: (run.created, run.label)), skipped


def grouped(runs: Iterable[FoundRun]) -> list[list[FoundRun]]:
    """Runs of the same thing together, in their order; most runs first."""
    groups: dict[Same, list[FoundRun]] = {}
    for run in runs:
        groups.setdefault(_same(run.record), []).append(run)
    return sorted(groups.values(), key=len, reverse=True)


def _same(run: RunRecord) -> Same:
    return Same(
        base=run.base.fingerprint,
        precision=(run.base.dtype, run.base.quantization),
        tasks=tuple(
            Task(
                task.name,
                task.version,
                task.context_tokens,
                task.num_samples,
                task.samples_sha256,
            )
            for task in run.tasks
        ),
        arms=frozenset(arm.name for arm in run.arms),
    )


def _run_folders(folder: Path) -> Iterator[Path]:
    """Folders that hold a run, or the beginning of one."""
    for path, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        unfinished = WORK_FOLDER in names and not _holds_runs(Path(path, WORK_FOLDER))
        if RUN_FILE in files or unfinished:
            names.clear()
            yield Path(path)


def _holds_runs(work: Path) -> bool:
    """Whether a folder of that name is one that a user keeps runs in: no run's own holds a run."""
    return next(work.rglob(RUN_FILE), None) is not None


def time_of(created: str) -> datetime:
    """When a run was created; in UTC where it does not say.

    Raises:
        ValueError: It is no time.
    """
    time = datetime.fromisoformat(created)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
