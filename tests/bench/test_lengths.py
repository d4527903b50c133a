"""Claims about runs at several lengths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gistbench.bench.lengths import run_lengths
from gistbench.config import RunConfig
from gistbench.errors import TooLongError, UsageError
from gistbench.records import RunRecord, SampleRecord
from gistbench.report.evidence import load_evidence
from gistbench.storage import read_json, read_jsonl
from tests.fixtures.in_process import InProcess, SilentDisplay
from tests.fixtures.tiny_base import CONTEXT_TOKENS, POSITIONS

Settings = Callable[..., RunConfig]
LONGER = 200


def start(config: RunConfig, folder: Path) -> RunRecord:
    run_lengths(config, folder, display=SilentDisplay(), command="gistbench run --lengths")
    return read_json(folder / "run.json", RunRecord)


def test_every_arm_answers_at_every_length_and_the_first_is_judged(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    config = settings(samples=4, lengths=(LONGER,))
    record = start(config, tmp_path)
    assert [(t.name, t.context_tokens) for t in record.tasks] == [
        ("niah_passkey", CONTEXT_TOKENS),
        ("niah_passkey", LONGER),
    ]
    samples = list(read_jsonl(tmp_path / "samples.jsonl", SampleRecord))
    assert len(samples) == 2 * 4 * len(record.arms)
    assert {(s.nominal_tokens, s.context_tokens) for s in samples} == {
        (CONTEXT_TOKENS, CONTEXT_TOKENS),
        (LONGER, LONGER),
    }
    assert record.command == "gistbench run --lengths"
    assert RunConfig.model_validate(record.settings) == config
    assert load_evidence(tmp_path).judged_tokens == CONTEXT_TOKENS


def test_a_length_that_is_done_is_not_run_again(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    config = settings(models=("full",), samples=2, lengths=(LONGER,))
    in_process.stop_after = 6  # full and none at the first length, then into the second
    with pytest.raises(KeyboardInterrupt):
        start(config, tmp_path)
    in_process.stop_after = None
    in_process.jobs.clear()
    start(config, tmp_path)
    assert {job.context_tokens for job in in_process.jobs} == {LONGER}
    done = list(read_jsonl(tmp_path / "samples.jsonl", SampleRecord))
    in_process.jobs.clear()
    start(config, tmp_path)
    assert not in_process.jobs
    assert list(read_jsonl(tmp_path / "samples.jsonl", SampleRecord)) == done


def test_a_length_beyond_the_model_is_not_applicable_and_the_others_stand(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    config = settings(models=("full",), samples=2, lengths=(POSITIONS,))
    record = start(config, tmp_path)
    assert [task.context_tokens for task in record.tasks] == [CONTEXT_TOKENS]
    (note,) = (note for note in record.notes if "not applicable" in note)
    assert note.startswith(f"contexts of {POSITIONS:,} tokens are not applicable: ")
    assert f"exceed the {POSITIONS:,} positions of tiny" in note
    assert "/" not in note, "a folder of this machine"
    with pytest.raises(TooLongError):
        start(settings(models=("full",), context_tokens=POSITIONS, lengths=(160,)), tmp_path / "x")


@pytest.mark.parametrize("lengths", [(CONTEXT_TOKENS,), (200, 200), (8,)])
def test_lengths_that_make_no_axis_are_refused(
    settings: Settings, in_process: InProcess, tmp_path: Path, lengths: tuple[int, ...]
) -> None:
    with pytest.raises(UsageError, match="--lengths"):
        start(settings(lengths=lengths), tmp_path)
    assert not in_process.jobs


def test_a_finished_run_is_never_written_anew_with_a_length_less(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    start(settings(models=("full",), samples=2, lengths=(LONGER, 240)), tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(UsageError, match="contexts of 240 tokens too; name them in --lengths"):
        start(settings(models=("full",), samples=2, lengths=(LONGER,)), tmp_path)
    assert (tmp_path / "run.json").read_bytes() == before
    more = start(settings(models=("full",), samples=2, lengths=(LONGER, 240, 180)), tmp_path)
    assert [task.context_tokens for task in more.tasks] == [CONTEXT_TOKENS, LONGER, 240, 180]
