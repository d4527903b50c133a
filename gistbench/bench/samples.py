"""Samples of a run, made again from their seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gistbench import generators, ruler
from gistbench.errors import UsageError, did_you_mean, first_line
from gistbench.models.catalog import find_model
from gistbench.models.loading import load_tokenizer, local_folder
from gistbench.models.manifest import base_of
from gistbench.records import RunRecord, SampleRecord
from gistbench.storage import RUN_FILE, SAMPLES_FILE, read_json, read_jsonl


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
    prompt = "".join(_parts(run, record, *_tokenizer(run)))
    if hashlib.sha256(prompt.encode()).hexdigest() != record.prompt_sha256:
        raise UsageError(_differs(run, record))
    return prompt


def question_maker(run_dir: Path) -> Callable[[SampleRecord], str]:
    """Makes the questions of a run's samples again, for runs whose records do not hold them.

    Raises:
        UsageError: When called, where the prompt made now is not the one that ran.
    """
    run = read_json(run_dir / RUN_FILE, RunRecord)
    source: list[tuple[Path, Any]] = []

    def question(record: SampleRecord) -> str:
        if not source:
            source.append(_tokenizer(run))
        context, asked = _parts(run, record, *source[0])
        if hashlib.sha256((context + asked).encode()).hexdigest() != record.prompt_sha256:
            raise UsageError(_differs(run, record))
        return asked

    return question


def _differs(run: RunRecord, record: SampleRecord) -> str:
    return (
        f"the prompt of {record.sample_id} made now differs from the one that ran (its hash is "
        f"{record.prompt_sha256[:12]}…): tasks or tokenizer have changed; use the gistbench "
        f"{run.provenance.gistbench_version} of that run"
    )


def _tokenizer(run: RunRecord) -> tuple[Path, Any]:
    base = base_of(
        run.settings["checkpoint"], run.settings["base"], run.settings.get("tuned_checkpoint")
    )
    folder = local_folder(find_model(base), revision=run.settings["revision"])
    return folder, load_tokenizer(folder)


def _parts(run: RunRecord, record: SampleRecord, folder: Path, tokenizer: Any) -> tuple[str, str]:
    """Context and question of a sample, made again."""
    if record.task in ruler.TASKS:
        return _ruler_parts(run, record, folder)
    splits = {task.name: task.split for task in run.tasks}
    try:
        _, context, question, _ = generators.build_document(
            record.task,
            tokenizer,
            split=splits[record.task],
            context_tokens=record.nominal_tokens or record.context_tokens,
            index=record.index,
            seed=record.seed,
            text=run.settings.get("haystack"),
            data_file=run.settings.get("data_file"),
        )
    except ValueError as error:
        raise UsageError(
            f"{record.sample_id} cannot be made again here ({first_line(error)}); a user's texts "
            "must lie where they lay when the run began"
        ) from error
    return context, question


def _ruler_parts(run: RunRecord, record: SampleRecord, tokenizer_folder: Path) -> tuple[str, str]:
    # Imported here: lm-eval takes seconds, and most tasks need none of it.
    from gistbench.bench.first_prompts import ruler_fields
    from gistbench.evaluation.documents import load_ruler

    task = load_ruler(
        record.task,
        tokenizer_folder=tokenizer_folder,
        max_tokens=record.nominal_tokens or run.settings["context_tokens"],
        seed=record.seed,
        trust_remote_code=run.settings["trust_remote_code"],
    )
    made = ruler_fields(task, record.task, record.index + 1)
    # By its number: lm-eval leaves out documents that it cannot make.
    fields = next((each for each in made if each["index"] == record.index), made[0])
    return fields["context"], fields["question"]
