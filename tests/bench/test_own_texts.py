"""Claims about runs on a user's own haystack and questions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gistbench.bench.own_texts import with_own_texts
from gistbench.bench.run import run
from gistbench.bench.samples import regenerate
from gistbench.config import RunConfig
from gistbench.errors import UsageError
from gistbench.records import RunRecord, SampleRecord
from gistbench.storage import read_json, read_jsonl
from tests.fixtures.in_process import InProcess, SilentDisplay

Settings = Callable[..., RunConfig]
COLOURS = ("green", "red", "blue", "white", "black")


def _start(config: RunConfig, folder: Path) -> tuple[RunRecord, list[SampleRecord]]:
    run(config, folder, display=SilentDisplay(), command="gistbench run")
    record = read_json(folder / "run.json", RunRecord)
    return record, list(read_jsonl(folder / "samples.jsonl", SampleRecord))


def _book(folder: Path, *, animal: str = "heron") -> Path:
    file = folder / "book.txt"
    text = [
        f"In {year} the {animal} went over the hill. It was {year}." for year in range(1500, 1560)
    ]
    file.write_text("\n\n".join(text), encoding="utf-8")
    return file


def _questions(folder: Path, *more: dict[str, Any]) -> Path:
    file = folder / "data.jsonl"
    lines = [
        {"context": "So it was. " * (place + 3) + f"The lamp was {colour}.",
         "question": "The lamp was", "answer": colour}
        for place, colour in enumerate(COLOURS)
    ]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, [*lines, *more])), encoding="utf-8")
    return file


def test_a_run_hides_its_keys_in_the_users_prose(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    book = _book(tmp_path)
    record, samples = _start(settings(haystack=str(book), samples=4), tmp_path / "run")
    assert record.tasks[0].version.startswith("1.2+haystack-")
    assert all("/haystack-" in sample.sample_id for sample in samples)
    assert all("heron" in sample.excerpt for sample in samples)
    prompt = regenerate(tmp_path / "run", samples[0].sample_id)
    assert "the heron went over the hill" in prompt
    _book(tmp_path, animal="stork")
    with pytest.raises(UsageError, match="task niah_passkey changed since"):
        _start(settings(haystack=str(book), samples=4), tmp_path / "run")


def test_a_run_asks_the_users_own_questions(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    file = _questions(tmp_path)
    config = settings(data_file=str(file), samples=None, batch_size=2)
    record, samples = _start(config, tmp_path / "run")
    assert [task.name for task in record.tasks] == ["own_jsonl"]
    assert record.tasks[0].version.startswith("1.0+data-")
    assert record.tasks[0].chance_floor == 0
    assert all(arm.complete and arm.num_samples == len(COLOURS) for arm in record.arms)
    lengths = [sample.context_tokens for sample in samples if sample.arm == "full"]
    assert lengths == sorted(set(lengths)), "each context has its own length"
    assert record.tasks[0].context_tokens == max(lengths)
    assert {sample.nominal_tokens for sample in samples} == {max(lengths)}
    assert [sample.expected for sample in samples if sample.arm == "gist"] == list(COLOURS)
    donors = {sample.sample_id: sample.expected for sample in samples}
    for sample in samples:
        if sample.arm == "swapped":
            assert sample.donor_sample_id is not None
            assert donors[sample.donor_sample_id] != sample.expected
    assert "The lamp was" in regenerate(tmp_path / "run", samples[0].sample_id)


def test_a_line_too_long_for_the_model_is_named_before_any_answer(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    long = {"context": "It was so. " * 600, "question": "So?", "answer": "yes"}
    file = _questions(tmp_path, long)
    with pytest.raises(
        UsageError, match=r"data\.jsonl line 6: its prompt has [\d,]+ tokens, and 960"
    ):
        _start(settings(data_file=str(file), samples=None), tmp_path / "run")
    assert not in_process.answered


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ("own_jsonl",)}, "own_jsonl reads a file of yours and none is named"),
        ({"data_file": "DATA", "tasks": ("niah_passkey",)}, "--data-file is read by the task own"),
        ({"data_file": "DATA", "samples": 6}, "--samples 6 asks for more than the 5 lines"),
        ({"data_file": "DATA", "time_budget_seconds": 9.0}, "pass --samples instead"),
        ({"data_file": "missing.jsonl"}, "missing.jsonl does not exist"),
        ({"haystack": "missing.txt"}, "haystack missing.txt does not exist"),
        ({"haystack": "BOOK", "tasks": ("document_topic",)}, "changes no document of document_t"),
    ],
)  # fmt: skip
def test_texts_that_no_task_can_use_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    names = {"DATA": str(_questions(tmp_path)), "BOOK": str(_book(tmp_path))}
    fields = {
        name: names.get(value, value) if isinstance(value, str) else value
        for name, value in changes.items()
    }
    with pytest.raises(UsageError, match=message):
        with_own_texts(RunConfig.model_validate(fields))


def test_own_questions_may_stand_beside_other_tasks(tmp_path: Path) -> None:
    config = RunConfig(data_file=str(_questions(tmp_path)), tasks=("niah_passkey", "own_jsonl"))
    settled = with_own_texts(config)
    assert settled.tasks == ("niah_passkey", "own_jsonl")
    assert settled.samples == len(COLOURS)


def test_questions_to_one_document_alone_are_refused_before_any_work(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    file = tmp_path / "data.jsonl"
    lines = [
        {"context": "All of it was so.", "question": f"What was {what}?", "answer": colour}
        for what, colour in (("the lamp", "green"), ("the door", "red"))
    ]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with pytest.raises(UsageError, match=r"data\.jsonl line 1 finds no other line .* swapped"):
        _start(settings(data_file=str(file), samples=None), tmp_path / "run")
    assert not in_process.jobs
    record, _ = _start(
        settings(data_file=str(file), samples=None, models=("full",)), tmp_path / "run"
    )
    assert [arm.name for arm in record.arms] == ["full", "none"]


def test_a_budget_is_held_against_the_users_contexts_and_not_against_the_default_length(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    file = tmp_path / "data.jsonl"
    lines = [
        {"context": "So it was. " * 30 + f"It was {c}.", "question": "It was", "answer": c}
        for c in COLOURS
    ]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    config = settings(
        data_file=str(file), samples=None, models=("full", "truncate-60"), context_tokens=40
    )
    record, samples = _start(config, tmp_path / "run")
    assert not record.not_applicable
    assert {s.cache_tokens for s in samples if s.arm == "truncate-60"} == {60}


def test_an_arm_whose_budget_exceeds_a_context_of_the_users_takes_no_part(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    file = _questions(tmp_path)
    config = settings(
        data_file=str(file), samples=None, models=("full", "truncate-4", "truncate-30")
    )
    display = SilentDisplay()
    run(config, tmp_path / "run", display=display, command="gistbench run")
    record = read_json(tmp_path / "run" / "run.json", RunRecord)
    assert [arm.name for arm in record.arms] == ["full", "truncate-4", "none"]
    (excluded,) = record.not_applicable
    shortest = min(
        sample.context_tokens
        for sample in read_jsonl(tmp_path / "run" / "samples.jsonl", SampleRecord)
        if sample.arm == "full"
    )
    assert excluded.arm == "truncate-30" and shortest < 30
    assert f"cannot keep 30 of {shortest} context tokens" in excluded.reason
    assert excluded.reason.endswith(f"the shortest context of {file}")
    assert excluded.context_tokens == record.tasks[0].context_tokens
    alone = settings(data_file=str(file), samples=None, models=("truncate-30",))
    with pytest.raises(UsageError, match=f"truncate-30 cannot keep 30 of {shortest} context tok"):
        _start(alone, tmp_path / "other")


def test_a_sample_whose_file_has_gone_is_one_sentence(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    file = _questions(tmp_path)
    _, samples = _start(
        settings(data_file=str(file), samples=None, models=("full",)), tmp_path / "run"
    )
    file.unlink()
    with pytest.raises(UsageError, match="must lie where they lay when the run began"):
        regenerate(tmp_path / "run", samples[0].sample_id)
