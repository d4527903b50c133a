"""Claims about `gistbench compare`: what it writes, prints and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from gistbench.cli import main
from tests.fixtures.synthetic_run import SyntheticRun

RUN = SyntheticRun(num_samples=6, hits={"gist": 6, "full": 2, "swapped": 0, "none": 0})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two runs, in which the command is given."""
    RUN.write(tmp_path / "a")
    RUN.but(hits={**RUN.hits, "gist": 0}).write(tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gistbench(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as end:
        main(words)
    return end.value.code


def test_two_runs_become_a_page_a_record_and_markdown(here, capsys):
    assert gistbench("compare", "a", "b", "--output", "out") in (0, None)
    assert sorted(path.name for path in (here / "out").iterdir()) == [
        "compare.html",
        "compare.json",
        "compare.md",
    ]
    printed = " ".join(capsys.readouterr().out.split())
    assert "gist, b against a on niah_passkey: worse, -100.0 points" in printed
    assert "comparison: out/compare.html" in printed


def test_without_an_output_the_time_names_the_folder(here):
    gistbench("compare", "a", "b")
    (folder,) = (here / "results" / "compare").iterdir()
    assert (folder / "compare.html").is_file()


def test_arms_are_named_with_commas(here):
    gistbench("compare", "a", "b", "--arms", "full,gist:full", "--output", "out")
    text = (here / "out" / "compare.md").read_text(encoding="utf-8")
    assert "full, b against a on" in text
    assert "gist of b against full of a on" in text


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("compare", "a"), "at least two runs"),
        (("compare", "a", "a"), "same folder"),
        (("compare", "a", "b", "--arms", "gits"), "did you mean 'gist'?"),
        (("compare", "a", "c"), "c/run.json cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_leaves_nothing(here, capsys, words, problem):
    assert gistbench(*words) == 2
    captured = capsys.readouterr()
    assert problem in captured.err
    assert len(captured.err.splitlines()) == 1
    assert sorted(path.name for path in here.iterdir()) == ["a", "b"]


# --------------------------------------------------------------------------------------- history


def test_a_history_lies_in_the_folder_that_it_is_of(here, capsys):
    assert gistbench("history", ".") in (0, None)
    assert {"history.html", "history.json", "history.md"} <= {path.name for path in here.iterdir()}
    printed = " ".join(capsys.readouterr().out.split())
    assert "worse: gist on niah_passkey, b after a" in printed
    assert "history: history.html" in printed


def test_a_second_history_reads_the_runs_and_not_the_first_history(here):
    gistbench("history", ".")
    first = (here / "history.json").read_bytes()
    gistbench("history", ".", "--output", "elsewhere")
    assert (here / "elsewhere" / "history.json").read_bytes() == first


@pytest.mark.parametrize("folder", ["empty", "nothing"])
def test_a_folder_without_runs_is_one_line(here, capsys, folder):
    (here / "empty").mkdir()
    assert gistbench("history", folder) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list((here / "empty").iterdir()) == []
