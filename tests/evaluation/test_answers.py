"""Claims about answers kept on disk."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from gistbench.errors import UsageError
from gistbench.evaluation.answers import AnswerFile, answer_key
from gistbench.evaluation.engine import Response
from gistbench.records import Timing

IDENTITY = {
    "arm": "gist",
    "base": "f" * 64,
    "checkpoint": "c" * 64,
    "dtype": "bfloat16",
    "quantization": "none",
    "device": "cpu",
    "until": ("\n",),
    "max_new_tokens": 16,
}


def response(output: str) -> Response:
    return Response(
        prompt_sha256="a",
        output=output,
        output_tokens=6,
        context_tokens=96,
        question_tokens=19,
        cache_tokens=4,
        cache_bytes=2048,
        timing=Timing(batch_size=1, first_token_seconds=0.1, decode_seconds=0.2, decode_steps=5),
    )


@pytest.mark.parametrize("field", sorted(IDENTITY))
def test_a_key_differs_in_every_setting(field: str) -> None:
    changed: dict[str, Any] = {**IDENTITY, field: "another"}
    assert answer_key(changed, ["a", "b"]) != answer_key(IDENTITY, ["a", "b"])


def test_a_key_differs_in_the_prompts_and_their_order() -> None:
    keys = {
        answer_key(IDENTITY, prompts)
        for prompts in (["a", "b"], ["b", "a"], ["a"], ["ab"], ["a", "b", "c"])
    }
    assert len(keys) == 5


def test_answers_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "work" / "answers.jsonl"
    file = AnswerFile(path)
    assert file.get("k") is None
    file.put("k", [response(" 12345"), response(" 1\u20282")])
    file.put("l", [response("\n")])
    again = AnswerFile(path)
    assert again.get("k") == file.get("k") == [response(" 12345"), response(" 1\u20282")]
    assert again.get("l") == [response("\n")]


@pytest.mark.parametrize("lost", [1, 5, 300])
def test_a_last_line_that_was_cut_short_is_dropped_and_written_over(
    tmp_path: Path, lost: int
) -> None:
    path = tmp_path / "answers.jsonl"
    file = AnswerFile(path)
    file.put("k", [response("one")])
    file.put("l", [response("two")])
    path.write_bytes(path.read_bytes()[:-lost])
    again = AnswerFile(path)
    assert again.get("k") == [response("one")]
    assert again.get("l") is None
    again.put("l", [response("three")])
    assert AnswerFile(path).get("l") == [response("three")]


def test_a_file_is_mended_without_being_emptied_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever dies while mending, or finds the disk full, must not lose the whole lines."""
    path = tmp_path / "answers.jsonl"
    file = AnswerFile(path)
    file.put("k", [response("one")])
    with path.open("ab") as torn:
        torn.write(b'{"key": "l"')

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", lambda p, _: (p.open("wb").close(), full()))
        with contextlib.suppress(OSError, UsageError):
            AnswerFile(path)
    assert AnswerFile(path).get("k") == [response("one")]


def test_a_line_of_garbage_is_dropped_with_all_that_follows(tmp_path: Path) -> None:
    """Power loss can leave zeros in a file; a traceback would not say what to do."""
    path = tmp_path / "answers.jsonl"
    AnswerFile(path).put("k", [response("one")])
    with path.open("ab") as file:
        file.write(b"\0" * 40 + b"\n")
    again = AnswerFile(path)
    assert again.get("k") == [response("one")]
    again.put("l", [response("two")])
    assert AnswerFile(path).get("l") == [response("two")]


def test_answers_of_other_processes_are_found_and_their_files_left_alone(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "answers.jsonl", tmp_path / "answers-1.jsonl"
    other = AnswerFile(theirs)
    other.put("k", [response(" 12345")])
    mine = AnswerFile(ours, lambda: tmp_path.glob("answers*.jsonl"))
    assert mine.get("k") == [response(" 12345")]
    other.put("l", [response(" 2")])
    with theirs.open("a", encoding="utf-8") as file:
        file.write('{"key": "m", "respon')  # it is writing just now
    before = theirs.read_bytes()
    mine.put("n", [response(" 3")])
    assert mine.get("l") is None
    mine.read_beside()
    assert mine.get("l") == [response(" 2")]
    assert mine.get("m") is None
    assert mine.get("n") == [response(" 3")]
    assert theirs.read_bytes() == before
