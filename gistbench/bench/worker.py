"""One process for one arm: ``python -m gistbench.bench.worker JOB.json``.

Results go to files; standard output carries `Event` lines alone, standard error the libraries'.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gistbench import generators, ruler
from gistbench.bench.first_prompts import (
    RulerTasks,
    first_prompts,
    ruler_tasks,
    shortest_own_tokens,
)
from gistbench.bench.job import (
    GO_ON,
    PROBE_FILE,
    ArmResult,
    Event,
    Job,
    Mode,
    Probe,
    SteadyResult,
    TimingResult,
)
from gistbench.bench.loaded import Loaded, load, num_gpus, resolve_device
from gistbench.bench.recording import (
    at_once,
    on_one_processor,
    own_memory,
    phase_records,
    sample_record,
    task_record,
)
from gistbench.bench.systems import steady_state, throughput_round
from gistbench.errors import GistbenchError, TooLongError, UsageError
from gistbench.evaluation.answers import AnswerFile
from gistbench.evaluation.engine import no_marker
from gistbench.evaluation.lm import ArmLM, Sharing
from gistbench.measurement import MemorySampler, package_versions, provenance, timed
from gistbench.models.catalog import find_model
from gistbench.models.loading import local_folder
from gistbench.models.memory import OUT_OF_MEMORY, is_out_of_memory
from gistbench.models.prompts import PromptTokens
from gistbench.records import ArmRecord, NotMeasured, SampleRecord, TaskRecord
from gistbench.storage import read_json, write_json, write_jsonl

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


def emit(event: Event) -> None:
    """Say something to the parent process."""
    print(event.model_dump_json(), file=_events, flush=True)


_events = sys.stdout


def main() -> None:
    """Do the job named on the command line."""
    global _events
    # Libraries may print; only events may reach the parent.
    _events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _quiet()
    job = read_json(Path(sys.argv[1]), Job)
    try:
        MODES[job.mode](job)
    except GistbenchError as error:
        emit(Event(kind="error", text=str(error), too_long=isinstance(error, TooLongError)))
        sys.exit(2)
    except OUT_OF_MEMORY as error:
        if not is_out_of_memory(error):
            raise
        fewer = f"--batch-size {job.batch_size // 2}" if job.batch_size > 1 else "a larger GPU"
        text = f"the {job.arm} arm ran out of GPU memory; repeat the command with {fewer}"
        emit(Event(kind="error", text=f"{text} and another --output, or without this arm"))
        sys.exit(2)
    emit(Event(kind="done"))


def probe(job: Job) -> None:
    """Say what is here, and how long one context takes to read."""
    device = resolve_device(job.device)
    with MemorySampler(job.arm, device) as sampler:
        loaded = load(job, device, sampler.phase)
        prompt = first_prompts(job, loaded, ruler_tasks(job, loaded), 1)[0]
        loaded.engine.warm_up(prompt)
        with timed(device) as watch:
            loaded.engine.hold(prompt)
    found = Probe(
        base=loaded.record,
        provenance=provenance(device),
        prefill_seconds=watch.seconds,
        folder=str(loaded.engine.base.folder.resolve()),
        tokens_sha256=_tokens_sha256(prompt.tokens),
        shortest_own_tokens=shortest_own_tokens(job, loaded),
        num_gpus=num_gpus(),
    )
    write_json(Path(job.folder) / PROBE_FILE, found)


def prepare(job: Job) -> None:
    """Build the samples of every task, for the processes that answer them at once."""
    _build(job, str(local_folder(find_model(job.base), revision=job.revision)))


def _build(job: Job, tokenizer: str) -> None:
    """Build every task's samples, or find them built.

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


def _require_same_device(job: Job, device: str) -> None:
    """Refuse to go on with a run on other hardware than it began on.

    Raises:
        UsageError: Names both.
    """
    began = read_json(Path(job.folder) / PROBE_FILE, Probe).provenance
    here = provenance(device).device_name
    if here != began.device_name:
        raise UsageError(
            f"this run began on {began.device_name} and would go on on {here}; its figures would "
            "mix both: go on there, or start anew with another --output"
        )


def _tokens_sha256(tokens: PromptTokens) -> str:
    return hashlib.sha256(repr((tokens.context, tokens.question)).encode()).hexdigest()


def _require_same_tokens(job: Job, tokens: PromptTokens) -> None:
    """Refuse to answer other tokens than the other arms: environments differ in their tokenizers.

    Raises:
        UsageError: The first prompt is not the one that the probe saw.
    """
    seen = read_json(Path(job.folder) / PROBE_FILE, Probe).tokens_sha256
    if seen != _tokens_sha256(tokens):
        raise UsageError(
            f"the {job.arm} arm's process splits the first prompt into other tokens than the run "
            "began with, so that its answers would be to another text; leave the arm out, or start "
            "anew with another --output"
        )


def timing(job: Job) -> None:
    """One round of the speed measurement."""
    device = resolve_device(job.device)
    _require_same_device(job, device)
    with MemorySampler(job.arm, device) as sampler:
        loaded = load(job, device, sampler.phase)
        count = min(job.samples, job.contexts_held)
        prompts = first_prompts(job, loaded, ruler_tasks(job, loaded), count)
        _require_same_tokens(job, prompts[0].tokens)
        loaded.engine.warm_up(prompts[0])
        outcome = throughput_round(loaded.engine, prompts, job.contexts_held, job.round_index)
    path = Path(job.folder) / f"{job.arm}.timing-{job.round_index}.json"
    write_json(path, TimingResult(outcome=outcome))


class ShareAnsweredError(Exception):
    """Not a failure: this process has answered its share, and another one scores all of them."""


def answer(job: Job) -> None:
    """Answer this process's share of the samples; the process that evaluates takes it from here."""
    device = resolve_device(job.device)
    _require_same_device(job, device)
    loaded = load(job, device, no_marker)
    foreign = ruler_tasks(job, loaded)
    prompt = first_prompts(job, loaded, foreign, 1)[0]
    _require_same_tokens(job, prompt.tokens)
    loaded.engine.warm_up(prompt)
    with suppress(ShareAnsweredError):
        _answer(job, loaded, foreign)


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


def evaluate(job: Job) -> None:
    """Answer every sample of every task, then hold contexts and read the memory."""
    folder = Path(job.folder)
    device = resolve_device(job.device)
    _require_same_device(job, device)
    with MemorySampler(job.arm, device) as sampler:
        emit(Event(kind="status", text="loading"))
        with sampler.phase("load"):
            loaded = load(job, device, sampler.phase)
        foreign = ruler_tasks(job, loaded)
        prompts = first_prompts(job, loaded, foreign, min(job.samples, job.contexts_held))
        _require_same_tokens(job, prompts[0].tokens)
        loaded.engine.warm_up(prompts[0])
        samples, tasks = _answer(job, loaded, foreign)
        steady = SteadyResult(
            one=own_memory(job, steady_state(loaded.engine, sampler, prompts, 1)),
            many=own_memory(job, steady_state(loaded.engine, sampler, prompts, job.contexts_held)),
        )
    about = loaded.engine.arm.about
    arm = ArmRecord(
        name=job.arm,
        description=about.description,
        budget_tokens=about.budget_tokens,
        packages=provenance(device).packages if job.environment is not None else {},
        sees_question=loaded.engine.arm.sees_question,
        weights="base+adapter" if loaded.manifest is not None else "base",
        trained_on=loaded.manifest.trained_on if loaded.manifest is not None else (),
        complete=len(samples) == job.samples * len(job.tasks),
        num_samples=len(samples),
        phases=phase_records(job, sampler),
        steady_one=steady.one,
        steady_many=steady.many,
        throughput_rounds=NotMeasured(not_measured="no timing round has run"),
        weights_bytes=loaded.weights_bytes,
    )
    write_jsonl(folder / f"{job.arm}.samples.jsonl", samples)
    ticks = sampler.records()
    if job.parallel_arms > 1:  # the device's memory is then everybody's
        ticks = [tick.model_copy(update={"device_used_bytes": None}) for tick in ticks]
    write_jsonl(folder / f"{job.arm}.memory.jsonl", ticks)
    write_json(folder / f"{job.arm}.json", ArmResult(arm=arm, tasks=tasks))


def _answer(
    job: Job, loaded: Loaded, foreign: RulerTasks
) -> tuple[list[SampleRecord], tuple[TaskRecord, ...]]:
    """Let lm-eval ask and score."""
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
    _build(job, str(loaded.engine.base.folder))  # here what a user can mend is one sentence
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


MODES: dict[Mode, Callable[[Job], None]] = {
    "probe": probe,
    "prepare": prepare,
    "evaluate": evaluate,
    "answer": answer,
    "timing": timing,
}


def _quiet() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


if __name__ == "__main__":
    main()
