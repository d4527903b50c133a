"""Starting a worker and listening to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from gistbench.bench.job import GO_ON, Event, Job
from gistbench.environments import kvpress_python, lend_gistbench
from gistbench.errors import TooLongError, UsageError
from gistbench.launch import LAUNCHER_VARIABLES
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
    worker = Worker(job)
    try:
        worker.listen(listener)
    except BaseException:
        worker.stop()
        raise


class Worker:
    """A process at work on a job."""

    def __init__(self, job: Job) -> None:
        folder = Path(job.folder)
        number = f"-{job.process}" if job.process else ""
        name = f"{job.arm}.{job.mode}{number}"
        order = folder / f"{name}.job.json"
        self.job = job
        self.log = folder / f"{name}.log"
        write_json(order, job)
        python, import_path = _interpreter(job)
        with self.log.open("wb") as errors:
            self._process = subprocess.Popen(
                [python, "-m", "gistbench.bench.worker", str(order)],
                stdout=subprocess.PIPE,
                stderr=errors,
                # Only who shares its samples is ever told something.
                stdin=subprocess.PIPE if job.processes > 1 else subprocess.DEVNULL,
                env=_environment(job, import_path),
                text=True,
            )

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Hear every event until the process ends; raises as `run_worker`."""
        failed: Event | None = None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                event = Event.model_validate_json(line)
            except ValidationError:
                continue
            if event.kind == "error":
                failed = event
            listener(event)
        code = self._process.wait()
        if failed is not None:
            raise (TooLongError if failed.too_long else UsageError)(failed.text)
        if code != 0:
            text = self.log.read_text(encoding="utf-8", errors="replace")
            tail = text.splitlines()[-LOG_TAIL_LINES:]
            cause = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise WorkerError(
                f"the {self.job.arm} arm's process ended with {cause}; its log {self.log} ends "
                "with:\n" + "\n".join(tail)
            )

    def go_on(self) -> None:
        """Tell a process that shared its samples that all of them are answered."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has died, which `listen` says
            self._process.stdin.write(f"{GO_ON}\n")
            self._process.stdin.close()

    def stop(self) -> None:
        """End the process, if it has not ended."""
        self._process.terminate()
        self._process.wait()


def _environment(job: Job, import_path: str) -> dict[str, str]:
    found = {
        # A worker is no part of a launch that this process may be part of.
        **{name: text for name, text in os.environ.items() if name not in LAUNCHER_VARIABLES},
        "TOKENIZERS_PARALLELISM": "true",
        "PYTHONPATH": import_path,
    }
    if job.processes > 1:
        # It sees one GPU alone, so that nothing in it can take another by mistake.
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        named = visible.split(",") if visible is not None else []
        if visible is None:
            found["CUDA_VISIBLE_DEVICES"] = str(job.process)
        elif job.process < len(named):
            found["CUDA_VISIBLE_DEVICES"] = named[job.process]
        # Else there are fewer than processes, as where GPUs are hidden: none is made visible.
    return found


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
