"""Which runs are found below a folder, and which of them belong together."""

from pathlib import Path

import pytest

from gistbench.errors import UsageError
from gistbench.report.history.finding import find_runs, grouped
from tests.fixtures.synthetic_run import SyntheticRun

RUN = SyntheticRun(num_samples=4, hits={"gist": 4, "full": 2, "swapped": 0, "none": 0})


def created(day, **changes):
    return RUN.but(run_changes={"created": f"2030-01-{day:02d}T00:00:00Z", **changes})


def of(record, **fields):
    return record.model_copy(update=fields)


def test_runs_are_found_at_any_depth_the_oldest_first(tmp_path):
    created(2).write(tmp_path / "a" / "deep" / "er")
    created(1).write(tmp_path / "z")
    found, skipped = find_runs(tmp_path)
    assert [run.label for run in found] == ["z", "a/deep/er"]
    assert skipped == []


def test_times_of_other_zones_are_put_in_order(tmp_path):
    RUN.but(run_changes={"created": "2030-01-01T09:00:00+09:00"}).write(tmp_path / "first")
    RUN.but(run_changes={"created": "2030-01-01T01:00:00+00:00"}).write(tmp_path / "second")
    assert [run.label for run in find_runs(tmp_path)[0]] == ["first", "second"]


def test_a_run_inside_a_run_is_a_part_of_it(tmp_path):
    created(1).write(tmp_path / "whole")
    created(2).write(tmp_path / "whole" / "lengths" / "96")
    assert [run.label for run in find_runs(tmp_path)[0]] == ["whole"]


def test_a_folder_of_runs_may_be_called_work(tmp_path):
    created(1).write(tmp_path / "work" / "monday")
    created(2).write(tmp_path / "tuesday")
    found, skipped = find_runs(tmp_path)
    assert [run.label for run in found] == ["work/monday", "tuesday"]
    assert skipped == []


def test_the_folder_may_be_a_run_itself(tmp_path):
    created(1).write(tmp_path)
    assert [run.label for run in find_runs(tmp_path)[0]] == ["."]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: (folder / "run.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "work").mkdir(), "not finished: it has no run.json"),
        (
            lambda folder: RUN.but(run_changes={"created": "last Tuesday"}).write(folder),
            "names no time",
        ),
    ],
)
def test_what_cannot_be_read_is_skipped_with_its_reason(tmp_path, make, reason):
    created(1).write(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    make(tmp_path / "bad")
    found, (skipped,) = find_runs(tmp_path)
    assert [run.label for run in found] == ["good"]
    assert skipped.folder == "bad"
    assert reason in skipped.reason


def test_an_empty_folder_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"holds no finished run; make one with `gistbench run"):
        find_runs(tmp_path)


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        find_runs(tmp_path / "nothing")


def test_a_folder_of_broken_runs_names_the_first(tmp_path):
    (tmp_path / "work").mkdir()
    with pytest.raises(UsageError, match=r"no finished run \(\.: not finished"):
        find_runs(tmp_path)


RECORD = RUN.record()


@pytest.mark.parametrize(
    "change",
    [
        {"base": of(RECORD.base, fingerprint="01" * 32)},
        {"base": of(RECORD.base, quantization="nf4")},
        {"base": of(RECORD.base, dtype="float32")},
        {"tasks": (of(RECORD.tasks[0], version="2"),)},
        {"tasks": (of(RECORD.tasks[0], samples_sha256="01" * 32),)},
        {"tasks": (of(RECORD.tasks[0], context_tokens=2048),)},
        {"arms": RECORD.arms[:3]},
    ],
)
def test_another_base_precision_task_or_arm_is_another_thing(tmp_path: Path, change):
    created(1).write(tmp_path / "a")
    created(2, **change).write(tmp_path / "b")
    assert len(grouped(find_runs(tmp_path)[0])) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint": of(RECORD.checkpoint, sha256="01" * 32)},
        {"provenance": of(RECORD.provenance, git_commit="feedbeef", device_name="NVIDIA A100")},
        {"settings": {"batch_size": 99}},
    ],
)
def test_another_checkpoint_commit_device_or_batch_is_the_same_thing_again(tmp_path, change):
    created(1).write(tmp_path / "a")
    created(2, **change).write(tmp_path / "b")
    (group,) = grouped(find_runs(tmp_path)[0])
    assert [run.label for run in group] == ["a", "b"]
