"""Claims about merged runs: nothing is counted twice, and nothing unlike is put together."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gistbench.bench.merge import merge
from gistbench.bench.run import run
from gistbench.config import RunConfig
from gistbench.errors import UsageError
from gistbench.records import NotMeasured, RunRecord, SampleRecord, ThroughputRound
from gistbench.report.evidence import load_evidence
from gistbench.storage import read_json, read_jsonl, write_json, write_jsonl
from tests.fixtures.in_process import InProcess, SilentDisplay

Settings = Callable[..., RunConfig]
LENGTHS = (160, 200)


@pytest.fixture(scope="module")
def parts(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, tiny_base: Path
) -> dict[str, Path]:
    """Runs of other arms and of another length on the same samples."""
    import gistbench.bench.run as bench_run

    root = tmp_path_factory.mktemp("parts")
    wanted: dict[str, dict[str, Any]] = {
        "gist": {"models": ("gist",), "checkpoint": str(tiny_checkpoint)},
        "rivals": {"models": ("full", "truncate-180"), "base": str(tiny_base)},
        "longer": {"models": ("full", "truncate-180"), "base": str(tiny_base)},
        "other seed": {"models": ("full",), "base": str(tiny_base), "seed": 1},
        "bfloat16": {"models": ("full",), "base": str(tiny_base), "dtype": "bfloat16"},
    }
    for name, changes in wanted.items():
        fields: dict[str, Any] = {"samples": 4, "device": "cpu", "dtype": "float32"}
        fields |= {"context_tokens": LENGTHS[name == "longer"], **changes}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench_run, "run_worker", InProcess())
            run(
                RunConfig.model_validate(fields),
                root / name,
                display=SilentDisplay(),
                command=f"gistbench run ({name})",
            )
    return {name: root / name for name in wanted}


def samples_of(folder: Path) -> list[SampleRecord]:
    return list(read_jsonl(folder / "samples.jsonl", SampleRecord))


def record_of(folder: Path) -> RunRecord:
    return read_json(folder / "run.json", RunRecord)


def test_arms_of_two_runs_stand_side_by_side_with_every_answer_once(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    merged = merge([parts["gist"], parts["rivals"]], tmp_path / "merged")
    record = record_of(merged)
    assert [arm.name for arm in record.arms] == ["gist", "swapped", "none", "full"]
    assert [arm.num_samples for arm in record.arms] == [4, 4, 4, 4]
    answers = [(s.arm, s.sample_id) for s in samples_of(merged)]
    assert len(answers) == len(set(answers)) == 16
    # Without a checkpoint the floor is that of other weights: it is no second measurement.
    assert "none of a second part is left out: it ran on other weights (base)" in record.notes
    assert [part.arms for part in record.parts] == [("gist", "swapped", "none"), ("full", "none")]
    assert record.checkpoint is not None
    load_evidence(merged)


def test_a_packed_run_reads_like_any_other(parts: dict[str, Path], tmp_path: Path) -> None:
    wanted = [parts["gist"], parts["rivals"]]
    plain, packed = merge(wanted, tmp_path / "plain"), merge(wanted, tmp_path / "xz", packed=True)
    assert sorted(path.name for path in packed.iterdir()) == [
        "memory.jsonl.xz",
        "run.json",
        "samples.jsonl.xz",
    ]
    assert samples_of(packed) == samples_of(plain)
    again = merge([packed, parts["rivals"]], tmp_path / "again")
    assert samples_of(again) == samples_of(plain)


def test_a_packed_file_cut_short_is_one_sentence(parts: dict[str, Path], tmp_path: Path) -> None:
    packed = merge([parts["gist"], parts["rivals"]], tmp_path / "xz", packed=True)
    file = packed / "samples.jsonl.xz"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(UsageError, match=r"samples\.jsonl\.xz cannot be read: it was cut short"):
        samples_of(packed)


def test_lengths_of_a_task_stay_apart(parts: dict[str, Path], tmp_path: Path) -> None:
    merged = merge([parts["rivals"], parts["longer"]], tmp_path / "merged")
    record = record_of(merged)
    assert [(t.name, t.context_tokens) for t in record.tasks] == [
        ("niah_passkey", 160),
        ("niah_passkey", 200),
    ]
    counts = {(s.arm, s.nominal_tokens) for s in samples_of(merged)}
    assert counts == {
        ("full", 160),
        ("none", 160),
        ("full", 200),
        ("none", 200),
        ("truncate-180", 200),
    }
    # What cannot take part at one length does at the other.
    assert [(n.arm, n.context_tokens) for n in record.not_applicable] == [("truncate-180", 160)]


def test_what_was_answered_twice_alike_is_counted_once_and_said(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    merged = merge([parts["rivals"], parts["rivals"]], tmp_path / "merged")
    assert len(samples_of(merged)) == len(samples_of(parts["rivals"]))
    (full, none) = record_of(merged).notes
    assert full.startswith("full answered 4 samples in a second part too: 0 of the answers differ")
    assert none.startswith("none answered 4 samples")


def test_the_first_part_decides_where_two_answered_the_same(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    edited = tmp_path / "edited"
    edited.mkdir()
    samples = [s.model_copy(update={"output": "another"}) for s in samples_of(parts["rivals"])]
    write_jsonl(edited / "samples.jsonl", samples)
    write_json(edited / "run.json", record_of(parts["rivals"]))
    (edited / "memory.jsonl").write_text("", encoding="utf-8")
    merged = merge([parts["rivals"], edited], tmp_path / "merged")
    assert all(s.output != "another" for s in samples_of(merged))
    assert any(
        "full answered 4 samples in a second part too: 4" in n for n in record_of(merged).notes
    )


def test_speeds_of_different_runs_never_become_a_ratio(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    def timed(name: str) -> Path:
        folder = tmp_path / f"timed-{name}"
        folder.mkdir()
        for file in ("samples.jsonl", "memory.jsonl"):
            (folder / file).write_bytes((parts[name] / file).read_bytes())
        rounds = tuple(
            ThroughputRound(
                round_index=index, contexts=2, context_tokens=160, decode_steps=9, seconds=1.0
            )
            for index in range(2)
        )
        record = record_of(parts[name])
        arms = tuple(arm.model_copy(update={"throughput_rounds": rounds}) for arm in record.arms)
        write_json(folder / "run.json", record.model_copy(update={"arms": arms}))
        return folder

    record = record_of(merge([timed("gist"), timed("rivals")], tmp_path / "merged"))
    measured = {
        arm.name for arm in record.arms if not isinstance(arm.throughput_rounds, NotMeasured)
    }
    assert measured == {"gist", "swapped", "none"}


@pytest.mark.parametrize(
    ("other", "said"),
    [("other seed", "samples of niah_passkey at 160 tokens"), ("bfloat16", "dtype float32")],
)
def test_runs_that_do_not_belong_together_are_refused_by_name(
    parts: dict[str, Path], tmp_path: Path, other: str, said: str
) -> None:
    with pytest.raises(UsageError, match="do not belong together") as caught:
        merge([parts["rivals"], parts[other]], tmp_path / "merged")
    assert said in str(caught.value)
    assert not (tmp_path / "merged").exists()


def test_what_cannot_be_merged_is_one_sentence(parts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two run directories or more"):
        merge([parts["gist"]], tmp_path / "merged")
    with pytest.raises(UsageError, match=r"run\.json cannot be read"):
        merge([parts["gist"], tmp_path], tmp_path / "merged")
    with pytest.raises(UsageError, match="is in use"):
        merge([parts["gist"], parts["rivals"]], parts["longer"])


def test_parts_are_held_against_each_other_and_not_against_the_first_alone(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    other = _edited(parts["gist"], tmp_path / "other", checkpoint_sha256="f" * 64)
    with pytest.raises(UsageError, match="do not belong together: checkpoint"):
        merge([parts["rivals"], parts["gist"], other], tmp_path / "merged")


def test_one_task_made_of_other_texts_is_refused_at_any_length(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    own = _edited(parts["longer"], tmp_path / "own", version="1.2+haystack-0123456789ab")
    with pytest.raises(UsageError, match="version of niah_passkey"):
        merge([parts["rivals"], own], tmp_path / "merged")


def test_a_merged_run_is_merged_again_with_every_length_asked(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    first = merge([parts["rivals"], parts["longer"]], tmp_path / "first")
    again = merge([first, parts["gist"]], tmp_path / "again")
    record = record_of(again)
    assert [(part.context_tokens, part.arms) for part in record.parts] == [
        (160, ("full", "none")),
        (200, ("full", "truncate-180", "none")),
        (160, ("gist", "swapped", "none")),
    ]
    evidence = load_evidence(again)
    longer = next(task for task in record.tasks if task.context_tokens == 200)
    assert evidence.was_asked("full", longer)
    assert not evidence.was_asked("gist", longer)
    assert record.command.count("--output") == 4, "three runs and the merging of them"
    assert "gistbench merge part-1 part-2 part-3 --output merged" in record.command


def test_memory_and_speed_are_those_of_the_judged_length(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    rounds = tuple(
        ThroughputRound(
            round_index=index, contexts=2, context_tokens=200, decode_steps=9, seconds=1.0
        )
        for index in range(2)
    )
    longer = _edited(parts["longer"], tmp_path / "longer", rounds=rounds)
    record = record_of(merge([parts["gist"], longer, parts["rivals"]], tmp_path / "merged"))
    full = next(arm for arm in record.arms if arm.name == "full")
    assert isinstance(full.throughput_rounds, NotMeasured), "rounds of 200 tokens judge no 160"
    marked = next(arm for arm in record_of(parts["rivals"]).arms if arm.name == "full")
    assert full.phases == marked.phases


def _edited(
    run_dir: Path,
    folder: Path,
    *,
    checkpoint_sha256: str | None = None,
    version: str | None = None,
    rounds: tuple[ThroughputRound, ...] | None = None,
) -> Path:
    """A copy of a run whose record says otherwise."""
    shutil.copytree(run_dir, folder)
    record = record_of(folder)
    changes: dict[str, Any] = {}
    if checkpoint_sha256 is not None and record.checkpoint is not None:
        changes["checkpoint"] = record.checkpoint.model_copy(update={"sha256": checkpoint_sha256})
    if version is not None:
        changes["tasks"] = tuple(t.model_copy(update={"version": version}) for t in record.tasks)
    if rounds is not None:
        changes["arms"] = tuple(
            arm.model_copy(update={"throughput_rounds": rounds}) for arm in record.arms
        )
    write_json(folder / "run.json", record.model_copy(update=changes))
    return folder
