"""One arm's samples shared by several processes, each on a GPU of its own.

The first process is the one that evaluates where there is only one. It answers every n-th batch,
the others the rest; each keeps its answers in a file. When the others have ended it reads theirs,
scores all, and measures memory with nothing else at work. So a run directory is written by one
process, in the one way there is, and what a killed run has answered is found again by any number
of processes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from gistbench.bench.job import Event, Job, Probe
from gistbench.bench.processes import Worker
from gistbench.bench.state import Run
from gistbench.config import RunConfig
from gistbench.errors import UsageError
from gistbench.storage import write_atomically

PROCESSES_FILE = "processes.json"


def require_possible(
    config: RunConfig, samples: int | None = None, found: Probe | None = None
) -> None:
    """Refuse more processes than there is work or are GPUs for, as soon as that is known.

    Args:
        config: Of the run.
        samples: Of each task; default: as far as the configuration says.
        found: By the probe, when it has run.

    Raises:
        UsageError: Names what there is.
    """
    processes = config.processes
    if processes == 1:
        return
    if config.parallel_arms > 1:
        raise UsageError(
            f"--parallel-arms {config.parallel_arms} and --processes {processes} would put several "
            "models on one GPU; pass one of the two"
        )
    samples = config.samples if samples is None else samples
    if samples is not None:
        batches = -(-samples // config.batch_size) * len(config.tasks)
        if processes > batches:
            raise UsageError(
                f"--processes {processes} leaves some without work: {samples} samples are "
                f"{batches} batch{'es' if batches > 1 else ''} of --batch-size "
                f"{config.batch_size}; pass --processes {batches} or less"
            )
    on_gpus = found is not None and found.provenance.device.startswith("cuda")
    if found is not None and on_gpus and processes > found.num_gpus:
        raise UsageError(
            f"--processes {processes} needs as many GPUs, and this PyTorch can use "
            f"{found.num_gpus} here; pass --processes {found.num_gpus} or less"
        )


def remember(state: Run) -> None:
    """Keep how many processes share the samples from here on: a run may go on with another number.

    Times of its samples are then not of one kind, and its record has to say so.
    """
    known = _processes(state)
    if state.config.processes not in known:
        counts = sorted({*known, state.config.processes})
        write_atomically(state.work / PROCESSES_FILE, json.dumps(counts) + "\n")


def notes(state: Run, device: str) -> tuple[str, ...]:
    """What a record says of the processes that shared a run."""
    counts = _processes(state) or [state.config.processes]
    if counts == [1]:
        return ()
    where = "on one processor" if device == "cpu" else "on a GPU of its own each"
    number = " or ".join(map(str, counts))
    stopped = "; it was stopped and went on with another number" if len(counts) > 1 else ""
    return (
        f"each arm's samples were answered by {number} processes at once, {where}{stopped}; "
        "memory is that of the first one's device",
    )


def _processes(state: Run) -> list[int]:
    file = state.work / PROCESSES_FILE
    return list(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else []


def evaluate(state: Run, arm: str, listener: Callable[[Event], None]) -> None:
    """Answer an arm's samples in several processes, and let the first evaluate.

    Args:
        state: The run.
        arm: Name of the arm.
        listener: Hears every event; progress is that of all processes together.

    Raises:
        GistbenchError: As `run_worker`, of the first process that fails; the others are ended then,
            and what they have answered is kept.
    """
    jobs = [
        state.job("answer" if process else "evaluate", arm, process=process)
        for process in range(state.config.processes)
    ]
    together = _Together(listener)
    workers: list[Worker] = []
    with ThreadPoolExecutor(len(jobs)) as pool:
        try:
            begun: list[Future[None]] = []
            for job in jobs:
                workers.append(Worker(job))
                begun.append(pool.submit(workers[-1].listen, together.listener(job)))
            others = set(begun[1:])
            at_work = set(begun)
            while at_work:
                ended, at_work = wait(at_work, return_when=FIRST_COMPLETED)
                for future in ended:
                    future.result()
                if ended & others and not at_work & others:
                    workers[0].go_on()
        except BaseException:
            for worker in workers:
                worker.stop()
            raise


class _Together:
    """Adds up the progress of processes that share an arm's samples."""

    def __init__(self, listener: Callable[[Event], None]) -> None:
        self._listener = listener
        self._done: dict[tuple[str, int], int] = {}
        self._one_at_a_time = threading.Lock()

    def listener(self, job: Job) -> Callable[[Event], None]:
        """What hears one of the processes."""

        def hear(event: Event) -> None:
            with self._one_at_a_time:
                if event.kind == "progress":
                    self._done[event.task, job.process] = event.done
                    done = sum(n for (task, _), n in self._done.items() if task == event.task)
                    event = event.model_copy(update={"done": done})
                self._listener(event)

        return hear
