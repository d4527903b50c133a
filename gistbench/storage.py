"""The JSON and JSONL files that records lie in: written whole or not at all, read line by line.

A run directory holds::

    run.json       RunRecord       what ran, on what, and what each arm measured as a whole
    samples.jsonl  SampleRecord    one line per arm and sample, every raw output kept
    memory.jsonl   MemoryRecord    one line per tick of the memory sampler

The two JSONL files may be packed, as ``samples.jsonl.xz``: arms repeat each other's texts.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import ValidationError

from gistbench.errors import UsageError
from gistbench.records import SCHEMA_VERSION, MemoryRecord, Record, RunRecord, SampleRecord

RUN_FILE, SAMPLES_FILE, MEMORY_FILE = "run.json", "samples.jsonl", "memory.jsonl"
PACKED_SUFFIX = ".xz"
WORK_FOLDER = "work"
"""Where the answers of an unfinished run lie, within its folder."""

RecordT = TypeVar("RecordT", bound=Record)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        UsageError: The disk is full or the folder cannot be written.
    """
    write_bytes_atomically(path, text.encode("utf-8"))


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: beside it first, then renamed over it.

    Raises:
        UsageError: The disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise cannot_write(path, error) from error


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Keep other processes of this machine out of a folder that this one works in.

    The lock is the operating system's, so that a killed process leaves none behind, and lies in the
    folder for temporary files, so that it is no part of what is written.

    Raises:
        UsageError: Another process is at work there, or no lock can be had.
    """
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    place = Path(tempfile.gettempdir()) / f"gistbench-{name}.lock"
    lock = FileLock(place, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except OSError as error:
        if isinstance(error, Timeout):
            raise UsageError(
                f"another process is at work in {folder}; wait for it, or choose another --output"
            ) from error
        raise cannot_write(place, error) from error
    try:
        yield
    finally:
        lock.release()


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written, before any work.

    Raises:
        UsageError: With the reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{time.time_ns()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(path: Path, error: OSError) -> UsageError:
    """Turn an operating-system error into the sentence a user needs."""
    return UsageError(
        f"cannot write {path}: {(error.strerror or str(error)).lower()}; "
        "free space or choose another folder with --output, then run the same command to continue"
    )


def write_json(path: Path, record: Record) -> None:
    """Write one record as indented JSON, whole or not at all."""
    write_atomically(path, record.model_dump_json(indent=2) + "\n")


def write_jsonl(path: Path, records: Iterable[Record]) -> None:
    """Write records one per line, whole or not at all."""
    write_atomically(path, "".join(record.model_dump_json() + "\n" for record in records))


def pack(path: Path) -> Path:
    """Replace a JSONL file by one compressed beside it, which `read_jsonl` finds by the old name.

    Raises:
        UsageError: The disk is full or the folder cannot be written.
    """
    packed, beside = _packed(path), path.with_name(f".{path.name}{PACKED_SUFFIX}")
    try:
        with path.open("rb") as plain, lzma.open(beside, "wb", preset=9) as file:
            shutil.copyfileobj(plain, file)
        os.replace(beside, packed)
        path.unlink()
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise cannot_write(packed, error) from error
    return packed


def stored(path: Path) -> Path:
    """Where a JSONL file of a run really lies: as named, or packed."""
    return _packed(path) if not path.exists() and _packed(path).exists() else path


def _packed(path: Path) -> Path:
    return path.with_name(path.name + PACKED_SUFFIX)


def write_run(
    folder: Path,
    record: RunRecord,
    samples: Iterable[SampleRecord],
    memory: Iterable[MemoryRecord],
    *,
    packed: bool = False,
) -> None:
    """Write a run directory, run.json last: a directory that has it is a complete run."""
    for path, lines in ((folder / SAMPLES_FILE, samples), (folder / MEMORY_FILE, memory)):
        write_jsonl(path, lines)
        if packed:
            pack(path)
    write_json(folder / RUN_FILE, record)


def read_json(path: Path, kind: type[RecordT]) -> RecordT:
    """Read one record.

    Raises:
        UsageError: The file is missing, is not JSON, or is of another version or kind.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _cannot_read(path, error) from error
    return parse_record(text, kind, str(path))


def read_jsonl(path: Path, kind: type[RecordT]) -> Iterator[RecordT]:
    """Read records one line at a time; the error of a broken line names its number."""
    found = stored(path)
    try:
        with (
            lzma.open(found, "rt", encoding="utf-8")
            if found != path
            else path.open(encoding="utf-8") as file
        ):
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield parse_record(line, kind, f"{path} line {number}")
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise _cannot_read(found, error) from error


def _cannot_read(path: Path, error: Exception) -> UsageError:
    """Say why a file cannot be read: no such folder, no such file, or damage to what is there."""
    folder, next_step = path.parent, "name a run directory that `gistbench run` wrote"
    if isinstance(error, (EOFError, lzma.LZMAError)):
        problem = "it was cut short or damaged"
        next_step = "restore it or repeat the run"
    elif isinstance(error, UnicodeDecodeError):
        problem = f"it is not text in UTF-8 (byte {error.start:,})"
        next_step = "restore it or repeat the run"
    elif not folder.exists():
        problem = f"there is no folder {folder}"
    elif not folder.is_dir():
        problem = f"{folder} is a file and no folder"
    elif path.name == RUN_FILE and not path.exists() and (folder / WORK_FOLDER).is_dir():
        problem, next_step = "the run has not finished", "run its command again, it goes on"
    elif not path.exists():
        problem = "the folder holds no such file"
    else:
        problem = (getattr(error, "strerror", None) or str(error)).lower()
    return UsageError(f"{path} cannot be read: {problem}; {next_step}")


def parse_record(text: str, kind: type[RecordT], where: str) -> RecordT:
    """Read one record from its JSON.

    Raises:
        UsageError: Says what is wrong, and where.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError:
        return _explained(text, kind, where)


def _explained(text: str, kind: type[RecordT], where: str) -> RecordT:
    """Read the slow way what could not be read the fast one, to say what is wrong with it."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = "it is nested too deeply"
        if isinstance(error, json.JSONDecodeError):
            problem = f"{error.msg} at column {error.colno}"
        elif isinstance(error, ValueError):
            problem = "a number has too many digits"
        raise UsageError(
            f"{where} is not valid JSON ({problem}); "
            "the file was cut short or edited: restore it or repeat the run"
        ) from error
    if not isinstance(raw, dict):
        raise UsageError(
            f"{where} is not a {kind.__name__}: it holds no fields; "
            "name a run directory that `gistbench run` wrote"
        )
    version = raw.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"{where} has schema version {version}, this gistbench reads {SCHEMA_VERSION}; "
            "use the gistbench that wrote it"
        )
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the record"
        raise UsageError(
            f"{where} is not a {kind.__name__}: {field}: {first['msg'].lower()}; "
            "name a run directory that `gistbench run` wrote"
        ) from error
