"""What a worker answers: its job's samples, asked and scored by lm-eval."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gistbench import generators, ruler
from gistbench.bench.first_prompts import RulerTasks
from gistbench.bench.job import GO_ON, Event, Job
from gistbench.bench.loaded import Loaded
from gistbench.bench.recording import at_once, on_one_processor, sample_record, task_record
from gistbench.errors import UsageError
from gistbench.evaluation.answers import AnswerFile
from gistbench.evaluation.lm import ArmLM, Sharing
from gistbench.measurement import package_versions
from gistbench.records import SampleRecord, TaskRecord

SAMPLES_FOLDER = "samples"
COMPUTING = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "kvpress",
    "sentence-transformers",
    "usearch",
    "bm25s",
)
"""Packages another version of which may answer otherwise."""


class ShareAnsweredError(Exception):
    """Not a failure: this process has answered its share, and another one scores all of them."""


def build_samples(job: Job, tokenizer: str) -> None:
    """Build every task's samples, or find them built.

    Args:
        job: Whose tasks.
        tokenizer: Folder of the tokenizer that lengths are counted with.

    Raises:
        UsageError: A user's texts do not do.
    """
    for name in job.tasks:
        if name in ruler.TASKS:
            continue  # lm-eval makes these anew in every process
        metadata = generators.task_definition(name)["metadata"]
        try:
            generators.generator(name).load(**{**metadata, **_task_metadata(job, tokenizer)})
        except ValueError as error:
            raise UsageError(str(error)) from error


def _task_metadata(job: Job, tokenizer: str) -> dict[str, Any]:
    """What a task's generator is told besides its YAML."""
    return {
        "context_tokens": job.context_tokens,
        "num_samples": job.samples,
        "seed": job.seed,
        "split": job.split,
        "tokenizer": tokenizer,
        "cache_folder": str(Path(job.folder) / SAMPLES_FOLDER),
        "haystack": job.haystack,
        "data_file": job.data_file,
    }


def answered(
    job: Job, loaded: Loaded, foreign: RulerTasks, emit: Callable[[Event], None]
) -> tuple[list[SampleRecord], tuple[TaskRecord, ...]]:
    """Let lm-eval ask every sample of every task, and score the answers.

    Args:
        job: The worker's order.
        loaded: Its model.
        foreign: RULER's tasks among the job's, their documents made.
        emit: Told of the progress.

    Returns:
        Samples and tasks in the job's order.

    Raises:
        ShareAnsweredError: The samples are shared, and this is not the process that scores them.
        UsageError: A task cannot be asked.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    identity = {
        "arm": job.arm,
        "base": loaded.record.fingerprint,
        "checkpoint": loaded.manifest.adapter_sha256 if loaded.manifest else None,
        "dtype": loaded.record.dtype,
        "quantization": job.quantization,
        "device": loaded.engine.device.partition(":")[0],
        "segmented": loaded.engine.reader.segmented,
        "decoding": job.decoding,
        "packages": {n: v for n, v in package_versions().items() if n in COMPUTING},
    }

    def progress(task: str, done: int, total: int, resumed: bool) -> None:
        emit(Event(kind="progress", task=task, done=done, total=total, resumed=resumed))

    folder = Path(job.folder)
    number = f"-{job.process}" if job.process else ""
    untimed = at_once(job) if job.parallel_arms > 1 else None
    if job.processes > 1 and loaded.engine.device == "cpu":
        untimed = on_one_processor(job)
    model = ArmLM(
        loaded.engine,
        batch_size=job.batch_size,
        identity=identity,
        answers=AnswerFile(
            folder / f"{job.arm}.answers{number}.jsonl",
            lambda: folder.glob(f"{job.arm}.answers*.jsonl"),
        ),
        progress=progress,
        untimed=untimed,
        sharing=_sharing(job),
    )
    build_samples(job, str(loaded.engine.base.folder))  # here what a user can mend is one sentence
    manager = TaskManager(
        include_path=str(generators.tasks_folder()),
        include_defaults=False,
        metadata=_task_metadata(job, str(loaded.engine.base.folder)),
    )
    missing = set(job.tasks) - set(foreign) - set(manager.all_tasks)
    if missing:
        raise UsageError(
            f"lm-eval skips task {min(missing)}: its YAML is broken; run "
            f"`gistbench lm-eval validate --tasks {min(missing)}` to see where"
        )
    results = simple_evaluate(
        model=model,
        tasks=[foreign.get(name, name) for name in job.tasks],
        task_manager=manager,
        limit=job.samples,
        bootstrap_iters=0,
        log_samples=True,
    )
    samples: list[SampleRecord] = []
    tasks: list[TaskRecord] = []
    for name in job.tasks:
        entries = results["samples"][name]
        # Own data have lengths of their own; the longest stands for them.
        longest = max(e["doc"].get("context_tokens", job.context_tokens) for e in entries)
        records = [sample_record(job, name, entry, model, longest) for entry in entries]
        samples += records
        tasks.append(task_record(job, name, records, longest))
    return samples, tuple(tasks)


def _sharing(job: Job) -> Sharing | None:
    """What to do with the samples of other processes, if there are any."""
    if job.processes == 1:
        return None

    def wait_for_the_others() -> None:
        # The parent says so; at the end of the file there is none any more.
        if sys.stdin.readline().strip() != GO_ON:
            sys.exit(1)

    def leave() -> None:
        raise ShareAnsweredError

    meet = leave if job.mode == "answer" else wait_for_the_others
    return Sharing(job.process, job.processes, meet)
