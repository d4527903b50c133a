"""Samples of a run, made again from their seeds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gistbench import generators, ruler
from gistbench.errors import UsageError, did_you_mean
from gistbench.models.catalog import find_model
from gistbench.models.loading import load_tokenizer, local_folder
from gistbench.models.manifest import base_of
from gistbench.records import (
    RUN_FILE,
    SAMPLES_FILE,
    RunRecord,
    SampleRecord,
    read_json,
    read_jsonl,
)


def regenerate(run_dir: Path, sample_id: str) -> str:
    """The whole prompt of a sample.

    Raises:
        UsageError: The run has no such sample, or the prompt made now is not the one that ran.
    """
    run = read_json(run_dir / RUN_FILE, RunRecord)
    known: dict[str, SampleRecord] = {
        record.sample_id: record for record in read_jsonl(run_dir / SAMPLES_FILE, SampleRecord)
    }
    if sample_id not in known:
        near = did_you_mean(sample_id, list(known)[:5])
        raise UsageError(f"{run_dir} has no sample {sample_id!r}; {near}, …")
    record = known[sample_id]
    splits = {task.name: task.split for task in run.tasks}
    base = base_of(
        run.settings["checkpoint"], run.settings["base"], run.settings.get("tuned_checkpoint")
    )
    folder = local_folder(find_model(base), revision=run.settings["revision"])
    tokenizer = load_tokenizer(folder)
    if record.task in ruler.TASKS:
        prompt = _ruler_prompt(run, record, folder)
    else:
        sample = generators.generator(record.task).build_sample(
            tokenizer,
            task=record.task,
            split=splits[record.task],
            context_tokens=record.context_tokens,
            index=record.index,
            seed=record.seed,
            text=run.settings.get("haystack"),
            data_file=run.settings.get("data_file"),
        )
        prompt = sample.context + sample.question
    if hashlib.sha256(prompt.encode()).hexdigest() != record.prompt_sha256:
        raise UsageError(
            f"the prompt of {sample_id} made now differs from the one that ran (its hash is "
            f"{record.prompt_sha256[:12]}…): tasks or tokenizer have changed; use the gistbench "
            f"{run.provenance.gistbench_version} of that run"
        )
    return prompt


def _ruler_prompt(run: RunRecord, record: SampleRecord, tokenizer_folder: Path) -> str:
    # Imported here: lm-eval takes seconds, and most tasks need none of it.
    from gistbench.bench.first_prompts import ruler_fields
    from gistbench.evaluation.documents import load_ruler

    task = load_ruler(
        record.task,
        tokenizer_folder=tokenizer_folder,
        max_tokens=run.settings["context_tokens"],
        seed=record.seed,
        trust_remote_code=run.settings["trust_remote_code"],
    )
    made = ruler_fields(task, record.task, record.index + 1)
    # By its number: lm-eval leaves out documents that it cannot make.
    fields = next((each for each in made if each["index"] == record.index), made[0])
    return str(fields["context"] + fields["question"])
