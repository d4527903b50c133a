"""Claims about the prompts of the published ladder, which another version of Python made."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gistbench import generators
from gistbench.models.catalog import find_model
from gistbench.models.loading import load_tokenizer, local_folder
from gistbench.records import RunRecord, SampleRecord
from gistbench.storage import RUN_FILE, SAMPLES_FILE, read_json, read_jsonl

LADDER = Path(__file__).parents[2] / "results" / "published" / "ladder"
LAST_OF_A_TASK = 199


def test_every_task_makes_the_prompts_that_were_answered_elsewhere() -> None:
    run = read_json(LADDER / RUN_FILE, RunRecord)
    assert run.provenance.python.startswith("3.12")
    wanted = {(task.name, index) for task in run.tasks for index in (0, LAST_OF_A_TASK)}
    found: dict[tuple[str, int], SampleRecord] = {}
    # One arm after the other: the first has answered all that is wanted.
    for sample in read_jsonl(LADDER / SAMPLES_FILE, SampleRecord):
        if (sample.task, sample.index) in wanted:
            found.setdefault((sample.task, sample.index), sample)
        if len(found) == len(wanted):
            break
    assert found.keys() == wanted
    tokenizer = load_tokenizer(local_folder(find_model(run.base.name), revision=None))
    for (task, index), sample in found.items():
        assert sample.nominal_tokens is not None
        name, context, question, answer = generators.build_document(
            task,
            tokenizer,
            split="test",
            context_tokens=sample.nominal_tokens,
            index=index,
            seed=sample.seed,
        )
        assert (name, answer) == (sample.sample_id, sample.expected)
        made = hashlib.sha256((context + question).encode()).hexdigest()
        assert made == sample.prompt_sha256, f"{task} {index}"
