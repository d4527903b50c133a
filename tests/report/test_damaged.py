"""Whatever stands where a run should: one sentence that says what is wrong and what to do."""

import json

import pytest

from gistbench.cli.results import show
from gistbench.errors import UsageError
from gistbench.storage import pack


def refusal(folder):
    with pytest.raises(UsageError) as caught:
        show(folder)
    text = str(caught.value)
    assert "\n" not in text and text.count("; ") == 1 and len(text) < 600
    return text


def emptied(folder, **files):
    for path in folder.iterdir():
        path.unlink()
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


@pytest.fixture
def folder(cpu_run, tmp_path):
    return cpu_run.write(tmp_path / "run")


def test_no_folder(tmp_path):
    assert "run.json cannot be read: there is no folder" in refusal(tmp_path / "nowhere")


def test_a_file_instead_of_a_folder(folder):
    assert "samples.jsonl is a file and no folder" in refusal(folder / "samples.jsonl")


def test_an_empty_folder(folder):
    text = refusal(emptied(folder))
    assert "the folder holds no such file; name a run directory that `gistbench run`" in text


def test_a_run_that_has_not_finished(folder):
    (emptied(folder) / "work").mkdir()
    assert "the run has not finished; run its command again, it goes on" in refusal(folder)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"name": "sweep", "config": {}}, "run.json is not a RunRecord: created: field required"),
        ([1, 2], "run.json is not a RunRecord: it holds no fields"),
        ({"schema_version": 9}, "run.json has schema version 9, this gistbench reads 1"),
    ],
)
def test_another_tools_folder(folder, content, problem):
    assert problem in refusal(emptied(folder, run__json=json.dumps(content)))


def test_another_tools_folder_without_a_run(folder):
    found = emptied(folder, results_2026__json="{}", samples_niah__jsonl="{}\n")
    assert "run.json cannot be read: the folder holds no such file" in refusal(found)


def test_a_missing_file_of_samples(folder):
    (folder / "samples.jsonl").unlink()
    assert "samples.jsonl cannot be read: the folder holds no such file" in refusal(folder)


def test_a_line_that_was_cut_short(folder):
    path = folder / "samples.jsonl"
    path.write_text(path.read_text()[:-50])
    assert "samples.jsonl line 24 is not valid JSON" in refusal(folder)


def test_a_line_of_another_version(folder):
    path = folder / "samples.jsonl"
    path.write_text(path.read_text().replace('"schema_version":1', '"schema_version":2'))
    assert "samples.jsonl line 1 has schema version 2" in refusal(folder)


@pytest.mark.parametrize("name", ["samples.jsonl", "memory.jsonl"])
@pytest.mark.parametrize("keep", [0, 30, -100])
def test_a_packed_file_that_was_cut_short(folder, name, keep):
    path = pack(folder / name)
    path.write_bytes(path.read_bytes()[:keep])
    text = refusal(folder)
    assert text.endswith(
        f"{name}.xz cannot be read: it was cut short or damaged; restore it or repeat the run"
    )


def test_a_packed_file_with_a_wrong_byte(folder):
    path = pack(folder / "samples.jsonl")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    assert "it was cut short or damaged" in refusal(folder)


def test_a_file_that_only_says_that_it_is_packed(folder):
    (folder / "samples.jsonl").rename(folder / "samples.jsonl.xz")
    assert "it was cut short or damaged" in refusal(folder)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfe\x00\x01", "it is not text in UTF-8 (byte 0)"),
        (b"[" * 100_000 + b"\n", "line 1 is not valid JSON (it is nested too deeply)"),
        (b'{"a":' + b"9" * 5_000 + b"}\n", "line 1 is not valid JSON (a number has too many"),
    ],
)
def test_a_file_that_is_something_else(folder, content, problem):
    (folder / "samples.jsonl").write_bytes(content)
    assert problem in refusal(folder)


@pytest.mark.parametrize("name", ["run.json", "samples.jsonl"])
def test_a_folder_where_a_file_should_be(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    assert f"{name} cannot be read: is a directory" in refusal(folder)


def test_what_was_there_before_stays_where_nothing_could_be_rendered(folder):
    show(folder)
    before = (folder / "scorecard.html").read_bytes()
    (folder / "samples.jsonl").write_text("{")
    refusal(folder)
    assert (folder / "scorecard.html").read_bytes() == before
