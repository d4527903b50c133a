"""Claims about CONTRIBUTING.md: what it shows runs, as it stands there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.tiny_base import tiny_base

__all__ = ["tiny_base"]

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 40
BLOCK = re.compile(
    r"`(?P<path>[\w/]+\.\w+)`:\n\n```\w+\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE
)
ENTRY = re.compile(r"^```python\n(ArmName\(.*?)^```", re.DOTALL | re.MULTILINE)
RUN = """
import json, sys
from pathlib import Path
import gistbench
import gistbench.bench.run as bench_run
from gistbench.bench.samples import regenerate
from gistbench.config import RunConfig
from gistbench.report import render
from tests.fixtures.in_process import InProcess, SilentDisplay

assert Path(gistbench.__file__).is_relative_to(Path.cwd()), gistbench.__file__
bench_run.run_worker = InProcess()
settings = json.loads(sys.argv[1])
config = RunConfig(context_tokens=160, samples=4, device="cpu", dtype="float32", **settings)
bench_run.run(config, Path("run"), display=SilentDisplay(), command="gistbench run")
samples = [json.loads(line) for line in open("run/samples.jsonl", encoding="utf-8")]
regenerate(Path("run"), samples[1]["sample_id"])
render(Path("run"))
print(json.dumps([[s["arm"], s["task"], s["cache_tokens"], s["context_tokens"]] for s in samples]))
"""
PLAIN = """
import json, sys
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

results = simple_evaluate(
    model="hf", model_args={"pretrained": sys.argv[1]}, device="cpu", tasks=["door_colour"],
    task_manager=TaskManager(include_path="tasks", include_defaults=False), limit=2,
    bootstrap_iters=0, log_samples=True,
)
assert not any(name.startswith("gistbench") for name in sys.modules)
samples = results["samples"]["door_colour"]
print(json.dumps([[sample["doc"]["answer"], sample["exact_match"]] for sample in samples]))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of one's own, without what is large."""
    copy = tmp_path / "checkout"
    left_out = shutil.ignore_patterns("__pycache__", "*.safetensors")
    for folder in ("gistbench", "tasks", "tests/fixtures"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=left_out)
    for file in ("pyproject.toml", "CONCEPT.md"):
        shutil.copy(ROOT / file, copy)
    return copy


def example(heading: str) -> str:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return text.split(f"### {heading}\n")[1].split("\n#")[0]


def write_blocks(section: str, checkout: Path) -> int:
    """Put a section's files where it says; gives their number of lines."""
    lines = 0
    for found in BLOCK.finditer(section):
        path = checkout / found["path"]
        assert not path.exists()
        path.write_text(found["code"], encoding="utf-8")
        lines += found["code"].count("\n")
    return lines


def execute(checkout: Path, script: str, argument: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, argument],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(checkout), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


def test_the_task_runs_through_gistbench_and_through_plain_lm_eval(
    checkout: Path, tiny_base: Path
) -> None:
    assert 0 < write_blocks(example("A task, whole"), checkout) < MOST_LINES
    settings = {"models": ["full"], "base": str(tiny_base), "tasks": ["door_colour"]}
    rows = json.loads(execute(checkout, RUN, json.dumps(settings)))
    assert [row[:2] for row in rows] == [
        [arm, "door_colour"] for arm in ("full", "none") for _ in range(4)
    ]
    assert all(cache == (tokens if arm == "full" else 0) for arm, _, cache, tokens in rows)
    answers = json.loads(execute(checkout, PLAIN, str(tiny_base)))
    assert [answer for answer, _ in answers] == ["red", "green"]


def test_the_arm_runs_beside_the_others(checkout: Path, tiny_base: Path) -> None:
    section = example("An arm, whole")
    lines = write_blocks(section, checkout)
    entry = ENTRY.search(section)
    assert entry is not None
    assert 0 < lines + entry[1].count("\n") < MOST_LINES
    names = checkout / "gistbench" / "arms" / "names.py"
    text = names.read_text(encoding="utf-8")
    place = "    for arm in (\n"
    assert text.count(place) == 1
    names.write_text(text.replace(place, f"{place}{entry[1].rstrip()},\n"), encoding="utf-8")
    settings = {"models": ["full", "head-32"], "base": str(tiny_base)}
    rows = json.loads(execute(checkout, RUN, json.dumps(settings)))
    assert [row[2] for row in rows if row[0] == "head-32"] == [32] * 4
    assert [row[2] for row in rows if row[0] == "full"] == [160] * 4
