"""Claims about what imports what."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "transformers", "peft", "lm_eval", "datasets", "matplotlib", "scipy")


def loaded(code: str, heavy: tuple[str, ...] = HEAVY) -> str:
    """Which heavy packages a fresh process has after some code."""
    script = f"{code}\nimport sys\nprint(sorted(set({heavy!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "module",
    [
        "gistbench",
        "gistbench.cli",
        "gistbench.config",
        "gistbench.records",
        "gistbench.arms.names",
        "gistbench.bench.run",
        "gistbench.models.catalog",
        "gistbench.models.manifest",
        "gistbench.progress",
    ],
)
def test_what_a_command_line_needs_first_loads_nothing_heavy(module: str) -> None:
    assert loaded(f"import {module}") == "[]"


def test_reports_load_no_torch() -> None:
    found = loaded("import gistbench.report", ("torch", "transformers", "peft", "lm_eval"))
    assert found == "[]"


def test_help_loads_nothing_heavy() -> None:
    code = "import gistbench.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: pass"
    assert loaded(code) == "[]"


def test_tasks_need_nothing_of_gistbench() -> None:
    for path in (ROOT / "tasks").glob("*.py"):
        assert "gistbench" not in path.read_text(encoding="utf-8").replace(
            "nothing of gistbench", ""
        ).replace("gistbench imports", "")
