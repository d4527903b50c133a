"""Claims about the Python of their own that some arms run in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gistbench
from gistbench import environments
from gistbench.environments import KVPRESS_PYTHON, kvpress_python, lend_gistbench
from gistbench.errors import PrerequisiteError


def stand_in(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_checkouts_environment_is_found_and_another_can_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "checkout", lambda: tmp_path)
    monkeypatch.delenv(KVPRESS_PYTHON, raising=False)
    built = stand_in(tmp_path / ".kvpress" / "bin" / "python", "exit 0")
    assert kvpress_python() == str(built)
    other = stand_in(tmp_path / "other", "exit 0")
    monkeypatch.setenv(KVPRESS_PYTHON, str(other))
    assert kvpress_python() == str(other)


def test_a_missing_environment_is_one_sentence_with_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "checkout", lambda: tmp_path)
    monkeypatch.delenv(KVPRESS_PYTHON, raising=False)
    with pytest.raises(PrerequisiteError, match=r"it is not here; run `make kvpress`$"):
        kvpress_python()
    stand_in(tmp_path / ".kvpress" / "bin" / "python", "exit 1")  # set up half
    with pytest.raises(PrerequisiteError, match=r"it is not here; run `make kvpress`$"):
        kvpress_python()
    for python in (tmp_path / "nowhere", stand_in(tmp_path / "bare", "exit 1")):
        monkeypatch.setenv(KVPRESS_PYTHON, str(python))
        with pytest.raises(PrerequisiteError, match=rf"{KVPRESS_PYTHON}={python} is none; set it"):
            kvpress_python()
    monkeypatch.setattr(environments, "checkout", lambda: None)
    monkeypatch.delenv(KVPRESS_PYTHON)
    with pytest.raises(PrerequisiteError, match=f"set {KVPRESS_PYTHON} to one that has kvpress"):
        kvpress_python()


def test_what_is_lent_to_another_python_is_gistbench_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = lend_gistbench(tmp_path)
    assert lend_gistbench(tmp_path) == lent, "a run that goes on lends it again"
    assert os.listdir(lent) == ["gistbench"]
    monkeypatch.chdir(tmp_path)
    found = subprocess.run(
        [sys.executable, "-c", "import gistbench; print(gistbench.__file__)"],
        env={**os.environ, "PYTHONPATH": lent},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert Path(found).parent == Path(lent) / "gistbench"
    assert Path(found).resolve() == Path(gistbench.__file__).resolve()


def test_a_link_to_a_gistbench_that_is_gone_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "lent").mkdir()
    (tmp_path / "lent" / "gistbench").symlink_to(tmp_path / "gone")
    assert (Path(lend_gistbench(tmp_path)) / "gistbench" / "__init__.py").is_file()
