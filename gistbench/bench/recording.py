"""From lm-eval's log and the sampler's phases to the records that a worker leaves."""

from __future__ import annotations

import hashlib
from typing import Any

from gistbench import generators, ruler
from gistbench.bench.job import Job
from gistbench.evaluation.documents import own_fields, own_scores
from gistbench.evaluation.lm import ArmLM
from gistbench.measurement import MemorySampler
from gistbench.records import NotMeasured, PhaseRecord, SampleRecord, SteadyState, TaskRecord

EXCERPT_CHARACTERS = 300


def at_once(job: Job) -> NotMeasured:
    """Why what other processes take part in is not a figure of this one."""
    return NotMeasured(not_measured=f"up to {job.parallel_arms} arms answered at once")


def on_one_processor(job: Job) -> NotMeasured:
    """Why processes that answered on a CPU have no times: each took some of it from the others."""
    return NotMeasured(not_measured=f"{job.processes} processes answered on one processor at once")


def phase_records(job: Job, sampler: MemorySampler) -> tuple[PhaseRecord, ...]:
    """Peaks of this process; those of the device belong to all arms that answered at once."""
    if job.parallel_arms == 1:
        return sampler.phases()
    shared = {"device_used_peak_bytes": at_once(job)}
    return tuple(phase.model_copy(update=shared) for phase in sampler.phases())


def own_memory(job: Job, state: SteadyState | NotMeasured) -> SteadyState | NotMeasured:
    """What this process held; the device's memory is everybody's where arms answered at once."""
    if job.parallel_arms == 1 or isinstance(state, NotMeasured):
        return state
    return state.model_copy(update={"device_used_bytes": at_once(job)})


def sample_record(
    job: Job, task: str, entry: dict[str, Any], model: ArmLM, nominal_tokens: int
) -> SampleRecord:
    """What is kept of one answered sample.

    Args:
        job: The worker's order.
        task: Name of the task.
        entry: lm-eval's log of the sample.
        model: Has the responses.
        nominal_tokens: Length that the run asked of the task.
    """
    prompt = entry["arguments"][0][0]
    doc = own_fields(task, entry["doc"], prompt)
    response = model.responses[hashlib.sha256(prompt.encode()).hexdigest()]
    num_gists = len(model.engine.reader.gist_ids)
    start, end = doc.get("needle_start"), doc.get("needle_end")
    excerpt = needle = ""
    if start is not None and end is not None:
        needle = doc["context"][start:end]
        excerpt = doc["context"][max(0, start - EXCERPT_CHARACTERS) : end + EXCERPT_CHARACTERS]
    return SampleRecord(
        arm=job.arm,
        task=task,
        sample_id=doc["id"],
        index=doc["index"],
        seed=job.seed,
        num_gists=num_gists if model.engine.arm.about.needs_checkpoint == "gist" else None,
        depth=doc.get("depth"),
        needle_depth=doc.get("needle_depth"),
        excerpt=excerpt,
        excerpt_needle=needle,
        question=doc["question"],
        expected=doc["answer"],
        entropy_bits=doc.get("entropy_bits"),
        nominal_tokens=nominal_tokens,
        scores=own_scores(task, entry),
        **response.model_dump(),
    )


def task_record(
    job: Job, name: str, records: list[SampleRecord], context_tokens: int
) -> TaskRecord:
    """What is kept of one task as it ran; ``context_tokens`` is the length asked of it."""
    definition = generators.task_definition(name)
    metadata = definition["metadata"]
    hashes = "".join(record.prompt_sha256 for record in records)
    foreign = name in ruler.TASKS
    lengths = [record.context_tokens for record in records]
    exact = set(lengths) == {job.context_tokens}
    return TaskRecord(
        name=name,
        version=generators.task_version(name, job.haystack, job.data_file),
        language=metadata["language"],
        context_tokens=context_tokens,
        num_samples=len(records),
        seed=job.seed,
        split=job.split,
        chance_floor=float(metadata["chance_floor"]),
        control_floor=metadata.get("control_floor"),
        chance_floor_declared=not foreign,
        context_tokens_range=None if exact else (min(lengths), max(lengths)),
        exact_match_means=ruler.MEANING if foreign else "",
        generation=definition["generation_kwargs"],
        samples_sha256=hashlib.sha256(hashes.encode()).hexdigest(),
    )
