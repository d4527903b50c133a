"""What is merged: finished runs, and whether they belong together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from gistbench.arms.names import find_arm_name
from gistbench.errors import UsageError
from gistbench.records import CheckpointRecord, RunRecord, SampleRecord, TaskRecord
from gistbench.storage import RUN_FILE, SAMPLES_FILE, read_json, read_jsonl

Cell = tuple[str, int]
"""A task at one length."""


@dataclass(frozen=True, slots=True)
class Part:
    """A finished run that is merged."""

    folder: Path
    run: RunRecord
    samples: tuple[SampleRecord, ...]

    @property
    def tasks(self) -> dict[Cell, TaskRecord]:
        """Its tasks by name and length."""
        return {(task.name, task.context_tokens): task for task in self.run.tasks}

    @property
    def judged_tokens(self) -> int:
        """The length of its first task: that of its memory readings and timing rounds."""
        return self.run.tasks[0].context_tokens

    def cell(self, sample: SampleRecord) -> Cell:
        """Where a sample belongs; runs of one length did not always say it."""
        if sample.nominal_tokens is not None:
            return sample.task, sample.nominal_tokens
        return next(cell for cell in self.tasks if cell[0] == sample.task)


def read_part(folder: Path) -> Part:
    """A finished run.

    Raises:
        UsageError: It is none, or a record of it is broken.
    """
    run = read_json(folder / RUN_FILE, RunRecord)
    return Part(folder, run, tuple(read_jsonl(folder / SAMPLES_FILE, SampleRecord)))


def require_alike(first: Part, other: Part) -> None:
    """Refuse parts whose answers could differ for another reason than their arms.

    Raises:
        UsageError: Names the first thing that differs.
    """
    compared: dict[str, Callable[[RunRecord], Any]] = {
        "base weights": lambda run: run.base.fingerprint[:16],
        "dtype": lambda run: run.base.dtype,
        "quantization": lambda run: run.base.quantization,
        "device": lambda run: run.provenance.device_name,
        "gistbench version": lambda run: run.provenance.gistbench_version,
        "torch": lambda run: run.provenance.packages.get("torch"),
        "transformers": lambda run: run.provenance.packages.get("transformers"),
    }
    for name, value in compared.items():
        _require_equal(first, other, name, value(first.run), value(other.run))
    for name in ("checkpoint", "tuned_checkpoint"):
        mine: CheckpointRecord | None = getattr(first.run, name)
        theirs: CheckpointRecord | None = getattr(other.run, name)
        if mine is not None and theirs is not None:
            _require_equal(first, other, name, mine.sha256[:16], theirs.sha256[:16])
    theirs_by_name = {arm.name: arm for arm in other.run.arms}
    for arm in first.run.arms:
        again = theirs_by_name.get(arm.name)
        if again is not None and not find_arm_name(arm.name).is_control:
            _require_equal(first, other, f"weights of {arm.name}", arm.weights, again.weights)
        if again is not None:
            _require_equal(first, other, f"packages of {arm.name}", arm.packages, again.packages)
    for one, two in product(first.run.tasks, other.run.tasks):
        if one.name == two.name:  # also at other lengths: a user's texts are part of the version
            _require_equal(first, other, f"version of {one.name}", one.version, two.version)
            _require_equal(first, other, f"split of {one.name}", one.split, two.split)
    for cell in first.tasks.keys() & other.tasks.keys():
        one, two = first.tasks[cell], other.tasks[cell]
        name = f"samples of {cell[0]} at {cell[1]:,} tokens"
        mine_, theirs_ = ((t.num_samples, t.samples_sha256[:16]) for t in (one, two))
        _require_equal(first, other, name, mine_, theirs_)


def _require_equal(first: Part, other: Part, name: str, mine: Any, theirs: Any) -> None:
    if mine != theirs:
        raise UsageError(
            f"{first.folder} and {other.folder} do not belong together: {name} {mine} and "
            f"{theirs}; merge runs that differ in arms, tasks or lengths alone"
        )
