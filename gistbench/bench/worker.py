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

from gistbench.bench.answering import ShareAnsweredError, answered, build_samples
from gistbench.bench.first_prompts import (
    first_prompts,
    ruler_tasks,
    shortest_own_tokens,
)
from gistbench.bench.job import (
    PROBE_FILE,
    ArmResult,
    Event,
    Job,
    Mode,
    Probe,
    SteadyResult,
    TimingResult,
)
from gistbench.bench.loaded import load, num_gpus, resolve_device
from gistbench.bench.recording import (
    own_memory,
    phase_records,
)
from gistbench.bench.systems import steady_state, throughput_round
from gistbench.errors import GistbenchError, TooLongError, UsageError
from gistbench.evaluation.engine import no_marker
from gistbench.measurement import MemorySampler, provenance, timed
from gistbench.models.catalog import find_model
from gistbench.models.loading import local_folder
from gistbench.models.memory import OUT_OF_MEMORY, is_out_of_memory
from gistbench.models.prompts import PromptTokens
from gistbench.records import ArmRecord, NotMeasured
from gistbench.storage import read_json, write_json, write_jsonl


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
    build_samples(job, str(local_folder(find_model(job.base), revision=job.revision)))


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
        answered(job, loaded, foreign, emit)


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
        samples, tasks = answered(job, loaded, foreign, emit)
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
        answered_by_base=loaded.manifest is not None and loaded.manifest.answer_with == "base",
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
