"""A run directory belongs to its settings: the same ones go on there, others are refused.

Only the arms of an unfinished run may be others than before, since no arm's answers depend on
another arm: one that fails can be left out. The record names those that were.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gistbench import __version__, generators
from gistbench.bench.state import Run
from gistbench.config import RunConfig
from gistbench.config_files import validate
from gistbench.errors import UsageError
from gistbench.records import RunRecord
from gistbench.storage import RUN_FILE, read_json, write_atomically

TUNED = ("tuned_checkpoint", "tuned_checkpoint_sha256")
"""Settings of the arm full-tuned alone."""


def claim(state: Run) -> bool:
    """Take the directory for these settings; say whether anything is left to do."""
    settings = _settings(state.config)
    finished = state.folder / RUN_FILE
    started = state.work / "settings.json"
    if finished.is_file():
        record = read_json(finished, RunRecord)
        before = _settings(validate(RunConfig, record.settings, str(finished)))
        _require_same(before, settings, state.folder)
        _require_unchanged(state, record)
        return False
    # Also what the names in the settings stand for: a checkpoint trained anew is another one.
    claimed = {
        **settings,
        "left_out": [],
        "checkpoint_sha256": state.checkpoints.gist_sha256,
        "tuned_checkpoint_sha256": state.checkpoints.tuned_sha256,
        "gistbench_version": __version__,
        "task_versions": {name: _version(name, state.config) for name in state.config.tasks},
    }
    # Without a probe nothing was measured yet: settings that were refused can be mended.
    if started.is_file() and (state.work / "probe.json").is_file():
        # An earlier version knew fewer settings; it did what their defaults say.
        before = _settings(RunConfig()) | json.loads(started.read_text(encoding="utf-8"))
        left_out = _left_out(before, state.config.models)
        same = before | {"models": claimed["models"], "left_out": []}
        if before["tuned_checkpoint"] is None or state.config.tuned_checkpoint is None:
            # It belongs to an arm that came or went.
            same |= {name: claimed[name] for name in TUNED}
        _require_same(same, claimed, state.folder)
        write_atomically(started, json.dumps(claimed | {"left_out": left_out}, indent=2) + "\n")
        if left_out:
            state.notes.append(f"begun with arms that were left out later: {', '.join(left_out)}")
        state.display.say(f"going on with the run in {state.folder}")
        return True
    occupied = not started.is_file() and state.folder.exists()
    if occupied and (not state.folder.is_dir() or any(state.folder.iterdir())):
        raise UsageError(
            f"{state.folder} is in use by something else than a run; choose another --output"
        )
    write_atomically(started, json.dumps(claimed, indent=2) + "\n")
    return True


def _left_out(before: dict[str, Any], models: Sequence[str]) -> list[str]:
    """Arms that the run was begun with, now or earlier, and that it goes on without."""
    return [arm for arm in (*before.get("left_out", ()), *before["models"]) if arm not in models]


def _require_unchanged(state: Run, record: RunRecord) -> None:
    """Refuse to pass an old result off as that of a new checkpoint or task."""
    changed = []
    config, now = state.config, state.checkpoints
    for before, sha256, name in (
        (record.checkpoint, now.gist_sha256, config.checkpoint),
        (record.tuned_checkpoint, now.tuned_sha256, config.tuned_checkpoint),
    ):
        if (before.sha256 if before else None) != sha256:
            changed.append(f"checkpoint {name}")
    changed += [
        f"task {task.name}" for task in record.tasks if task.version != _version(task.name, config)
    ]
    if changed:
        raise UsageError(
            f"{state.folder} holds a finished run, but {' and '.join(changed)} changed since; "
            "choose another --output to run again"
        )


def _version(task: str, config: RunConfig) -> str:
    return generators.task_version(task, config.haystack, config.data_file)


def _require_same(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if differing:
        name = differing[0]
        raise UsageError(
            f"{folder} holds a run with other settings ({name} {before.get(name)!r}, now "
            f"{now.get(name)!r}); choose another --output"
        )


def _settings(config: RunConfig) -> dict[str, Any]:
    """What determines a run's answers; how many processes give them does not."""
    return config.model_dump(mode="json", exclude={"parallel_arms", "processes"})
