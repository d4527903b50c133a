"""The workflow and the commands of docs/ci.md are ones that gistbench understands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from gistbench.cli.app import app

DOCS = Path(__file__).resolve().parents[2] / "docs"
WORKFLOW = DOCS / "gistbench-gate.yml"


def workflow() -> dict[str, Any]:
    loaded = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def commands(text: str) -> list[list[str]]:
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.strip().startswith("gistbench ")]


def documented() -> list[list[str]]:
    steps = [step.get("run", "") for job in workflow()["jobs"].values() for step in job["steps"]]
    blocks = re.findall(
        r"```bash\n(.*?)```", (DOCS / "ci.md").read_text(encoding="utf-8"), re.DOTALL
    )
    return [words for text in (*steps, *blocks) for words in commands(text)]


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_every_command_of_the_documentation_parses(words: list[str]) -> None:
    command, bound, *_ = app.parse_args(words, exit_on_error=False, print_error=False)
    assert callable(command) and bound.args + tuple(bound.kwargs.values())


def test_the_workflow_runs_gates_uploads_and_posts() -> None:
    (job,) = workflow()["jobs"].values()
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    text = [step.get("run", step.get("uses", "")) for step in job["steps"]]
    order = ["gistbench run", "gistbench gate", "actions/upload-artifact", "gh pr comment"]
    places = [next(i for i, step in enumerate(text) if part in step) for part in order]
    assert places == sorted(places)
    for place in places[2:]:  # also where the gate has failed
        assert "always()" in job["steps"][place]["if"]


def test_the_workflow_and_the_page_accept_and_gate_the_same_run() -> None:
    runs = [words for words in documented() if words[0] == "run"]
    assert len(runs) == 2 and runs[0] == runs[1]
    names = {words[words.index("--name") + 1] for words in documented() if "--name" in words}
    assert "ci" in names
    assert any("baselines/ci.json" in words for words in documented())
