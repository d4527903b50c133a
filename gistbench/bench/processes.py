"""Starting a worker and listening to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from gistbench.bench.job import Event, Job
from gistbench.environments import kvpress_python, lend_gistbench
from gistbench.errors import TooLongError, UsageError
from gistbench.storage import write_json

LOG_TAIL_LINES = 30


class WorkerError(RuntimeError):
    """A worker died of a bug; its traceback is in the message and in its log."""


def run_worker(job: Job, listener: Callable[[Event], None]) -> None:
    """Do a job in a process of its own.

    Args:
        job: What to do.
        listener: Hears every event.

    Raises:
        UsageError: The worker found something that the user can mend; a TooLongError where the
            model lacks positions.
        WorkerError: The worker died.
    """
    folder = Path(job.folder)
    name = f"{job.arm}.{job.mode}"
    order = folder / f"{name}.job.json"
    log = folder / f"{name}.log"
    write_json(order, job)
    failed: Event | None = None
    python, import_path = _interpreter(job)
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [python, "-m", "gistbench.bench.worker", str(order)],
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "true", "PYTHONPATH": import_path},
            text=True,
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                try:
                    event = Event.model_validate_json(line)
                except ValidationError:
                    continue
                if event.kind == "error":
                    failed = event
                listener(event)
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if failed is not None:
        raise (TooLongError if failed.too_long else UsageError)(failed.text)
    if code != 0:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise WorkerError(
            f"the {job.arm} arm's process ended with {cause}; its log {log} ends with:\n"
            + "\n".join(tail)
        )


def _interpreter(job: Job) -> tuple[str, str]:
    """The Python that a job runs in, and the folders where that looks for packages first."""
    if job.environment is None:
        return sys.executable, _import_path()
    return kvpress_python(), lend_gistbench(Path(job.folder))


def _import_path() -> str:
    """Let the worker find this very package, also from a checkout that is not installed."""
    package_parent = str(Path(__file__).resolve().parents[2])
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join([package_parent, *([given] if given else [])])
