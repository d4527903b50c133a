"""Claims about records on disk: whole or not at all, versioned, and errors that name the place."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gistbench import storage
from gistbench.errors import UsageError
from gistbench.records import (
    MemoryRecord,
    NotMeasured,
    PhaseRecord,
    SampleRecord,
    SteadyState,
    ThroughputRound,
    Timing,
)
from gistbench.storage import read_json, read_jsonl, write_atomically, write_json, write_jsonl


def sample(**changes: Any) -> SampleRecord:
    fields: dict[str, Any] = {
        "arm": "gist",
        "task": "niah_passkey",
        "sample_id": "niah_passkey/test/96/seed0/0",
        "index": 0,
        "seed": 0,
        "prompt_sha256": "ab" * 32,
        "context_tokens": 96,
        "question_tokens": 19,
        "cache_tokens": 4,
        "cache_bytes": 2048,
        "num_gists": 4,
        "expected": "12345",
        "output": " 12345",
        "output_tokens": 7,
        "scores": {"exact_match": 1.0},
        "timing": Timing(batch_size=1, first_token_seconds=0.1, decode_seconds=0.2, decode_steps=5),
    }
    return SampleRecord(**{**fields, **changes})


def phase(**changes: Any) -> PhaseRecord:
    missing = NotMeasured(not_measured="no GPU here")
    fields: dict[str, Any] = {
        "phase": "decode",
        "seconds": 1.5,
        "torch_allocated_peak_bytes": missing,
        "torch_reserved_peak_bytes": missing,
        "device_used_peak_bytes": missing,
        "process_used_peak_bytes": missing,
        "resident_peak_bytes": 5,
    }
    return PhaseRecord(**{**fields, **changes})


@given(output=st.text(), excerpt=st.text(), depth=st.none() | st.floats(0, 1))
def test_any_output_survives_a_round_trip(output: str, excerpt: str, depth: float | None) -> None:
    record = sample(output=output, excerpt=excerpt, depth=depth)
    assert SampleRecord.model_validate_json(record.model_dump_json()) == record


def test_lines_of_samples_survive_whatever_a_model_writes(tmp_path: Path) -> None:
    """Line separators of Unicode are no ends of lines in JSONL."""
    path = tmp_path / "samples.jsonl"
    written = [
        sample(output=text) for text in ("\u2028", "a\u0085b", "\r\n", "패스키", "\x00", '"')
    ]
    write_jsonl(path, written)
    assert list(read_jsonl(path, SampleRecord)) == written


def test_a_number_that_was_not_measured_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "phase.json"
    write_json(path, phase())
    read = read_json(path, PhaseRecord)
    assert read == phase()
    assert read.device_used_peak_bytes == NotMeasured(not_measured="no GPU here")
    assert read.resident_peak_bytes == 5


def test_tokens_per_second_counts_all_contexts() -> None:
    timing = ThroughputRound(
        round_index=0, contexts=32, context_tokens=96, decode_steps=48, seconds=2.0
    )
    assert timing.tokens_per_second == 768


def test_records_refuse_unknown_fields_and_changes() -> None:
    with pytest.raises(ValueError, match="extra"):
        SteadyState.model_validate({"contexts": 3})
    with pytest.raises(ValueError, match="frozen"):
        sample().output = "better"


# ---------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("version", [0, 2, "1", None, 99])
def test_another_schema_version_is_refused(tmp_path: Path, version: object) -> None:
    path = tmp_path / "sample.json"
    path.write_text(
        json.dumps({**sample().model_dump(mode="json"), "schema_version": version}),
        encoding="utf-8",
    )
    with pytest.raises(UsageError, match=r"has schema version .* this gistbench reads 1"):
        read_json(path, SampleRecord)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    line = sample().model_dump_json()
    path.write_text(f"{line}\n\n{line[:50]}\n{line}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"samples.jsonl line 3 is not valid JSON"):
        list(read_jsonl(path, SampleRecord))


def test_a_line_of_another_kind_is_named_with_its_field(tmp_path: Path) -> None:
    path = tmp_path / "memory.jsonl"
    path.write_text(sample().model_dump_json() + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"memory.jsonl line 1 is not a MemoryRecord: "):
        list(read_jsonl(path, MemoryRecord))


@pytest.mark.parametrize("text", ["[]", "3", "null", '"text"'])
def test_json_that_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError):
        read_json(path, SampleRecord)


def test_missing_and_binary_files_are_one_sentence(tmp_path: Path) -> None:
    binary = tmp_path / "run.json"
    binary.write_bytes(b"\xff\xfe\x80")
    for path in (binary, tmp_path / "none.json", tmp_path):
        with pytest.raises(UsageError, match="cannot be read") as caught:
            read_json(path, SampleRecord)
        assert "\n" not in str(caught.value)
        with pytest.raises(UsageError, match="cannot be read"):
            list(read_jsonl(path, SampleRecord))


# ---------------------------------------------------------------------------------------- writing


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    write_atomically(path, "before")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(storage.os, "fsync", full)
        with pytest.raises(UsageError, match="no space left on device; free space or choose"):
            write_atomically(path, "after")
    assert [item.name for item in tmp_path.iterdir()] == ["run.json"]
    assert path.read_text(encoding="utf-8") == "before"


def test_a_write_that_is_interrupted_leaves_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storage.os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(path, "after")
    assert not path.exists()


def test_a_stream_that_fails_half_way_writes_nothing(tmp_path: Path) -> None:
    def broken() -> Any:
        yield sample()
        raise ZeroDivisionError

    path = tmp_path / "samples.jsonl"
    with pytest.raises(ZeroDivisionError):
        write_jsonl(path, broken())
    assert list(tmp_path.iterdir()) == []


def test_files_can_be_read_by_others_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "run.json"
    write_atomically(path, "text")
    assert path.read_text(encoding="utf-8") == "text"
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=r"cannot write .*run.json: "):
        write_atomically(tmp_path / "file" / "run.json", "text")
