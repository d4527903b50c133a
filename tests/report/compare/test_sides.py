"""Which runs may be compared, and what they are called."""

from pathlib import Path

import pytest

from gistbench.errors import UsageError
from gistbench.report.compare import compare
from gistbench.report.compare.sides import labels
from gistbench.storage import pack
from tests.fixtures.synthetic_run import SyntheticRun

RUN = SyntheticRun(num_samples=4, hits={"gist": 4, "full": 2, "swapped": 0, "none": 0})


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return RUN.write(tmp_path / "A")


def test_one_run_is_refused_with_the_command_that_compares(written):
    with pytest.raises(UsageError, match=r"at least two runs, and 1 run is named; pass `gistbench"):
        compare([written])


def test_more_runs_than_a_page_holds_are_refused(written):
    with pytest.raises(UsageError, match=r"9 runs are named, and 8 is .* `gistbench history`"):
        compare([written] * 9)


def test_the_same_folder_twice_is_refused_however_it_is_written(written, tmp_path):
    (tmp_path / "link").symlink_to(written)
    for again in (written, written / ".." / "A", tmp_path / "link"):
        with pytest.raises(UsageError, match="is the same folder as"):
            compare([written, again])


def test_runs_without_a_common_task_are_refused_with_both_tasks(written, tmp_path):
    other = RUN.but(tasks=("niah_uuid",)).write(tmp_path / "B")
    with pytest.raises(UsageError, match=r"no task in common .*niah_passkey there, niah_uuid here"):
        compare([written, other])


def test_a_folder_that_is_no_run_is_refused_by_name(written, tmp_path):
    with pytest.raises(UsageError, match=r"nothing/run\.json cannot be read"):
        compare([written, tmp_path / "nothing"])


def test_a_packed_run_is_a_run(written, tmp_path):
    other = RUN.write(tmp_path / "B")
    pack(other / "samples.jsonl")
    pack(other / "memory.jsonl")
    assert compare([written, other]).pairs[0].rows[0].both == 4


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["results/a", "results/b"], ("a", "b")),
        (["monday/run", "tuesday/run"], ("monday/run", "tuesday/run")),
        (["x/monday/run", "y/monday/run", "other"], ("x/monday/run", "y/monday/run", "other")),
    ],
)
def test_runs_are_called_by_their_folders_with_more_where_two_are_alike(folders, expected):
    assert labels([Path(folder) for folder in folders]) == expected


def test_long_names_are_cut_and_stay_different():
    found = labels([Path("a" * 90), Path("b" + "a" * 89)])
    assert len(set(found)) == 2
    assert all(len(name) < 50 for name in found)


def test_a_name_cannot_reorder_the_page():
    assert labels([Path("x\u202ey"), Path("z")]) == ("x⟨U+202E⟩y", "z")
