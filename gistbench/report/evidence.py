"""What a run left behind, read once and checked for being whole.

A report is only as good as its records, so nothing that contradicts itself gets further than here:
a sample counted twice, an arm or task that run.json does not know, a score that is no score.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gistbench.errors import UsageError
from gistbench.records import ArmRecord, MemoryRecord, RunRecord, SampleRecord, TaskRecord
from gistbench.storage import MEMORY_FILE, RUN_FILE, SAMPLES_FILE, read_json, read_jsonl, stored

PASSKEY_FAMILY = "niah_passkey"
GIST, FULL, TUNED = "gist", "full", "full-tuned"

Samples = tuple[SampleRecord, ...]


class Cell(NamedTuple):
    """One task at one length: what a rate belongs to."""

    task: str
    context_tokens: int


def cell_of(task: TaskRecord) -> Cell:
    """The cell that a task record stands for."""
    return Cell(task.name, task.context_tokens)


@dataclass(frozen=True)
class Evidence:
    """The records of one run, grouped.

    Attributes:
        groups: (arm, cell) -> samples in the order of their index.
        memory: arm -> its ticks, in time order.
    """

    run: RunRecord
    groups: Mapping[tuple[str, Cell], Samples]
    memory: Mapping[str, tuple[MemoryRecord, ...]]

    @property
    def judged_tokens(self) -> int | None:
        """The length at which criteria are judged: that of the first task."""
        return self.run.tasks[0].context_tokens if self.run.tasks else None

    @property
    def judged_tasks(self) -> tuple[TaskRecord, ...]:
        """The tasks at the length at which criteria are judged."""
        return tuple(t for t in self.run.tasks if t.context_tokens == self.judged_tokens)

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Every arm that ran, and those that could take part at no length."""
        names = [arm.name for arm in self.run.arms]
        return tuple(dict.fromkeys([*names, *(out.arm for out in self.run.not_applicable)]))

    def arm(self, name: str) -> ArmRecord | None:
        """The arm of that name, if it ran."""
        return next((arm for arm in self.run.arms if arm.name == name), None)

    def task(self, name: str) -> TaskRecord | None:
        """The task of that name at the judged length, if it ran."""
        return next((task for task in self.judged_tasks if task.name == name), None)

    def label(self, task: TaskRecord) -> str:
        """How a task is called: by its name, and by its length where it ran at several."""
        if sum(other.name == task.name for other in self.run.tasks) < 2:
            return task.name
        return f"{task.name}, {task.context_tokens:,} tokens"

    def record(self, cell: Cell) -> TaskRecord:
        """The task record of a cell."""
        return next(task for task in self.run.tasks if cell_of(task) == cell)

    def label_of(self, cell: Cell) -> str:
        """How the task of a cell is called."""
        return self.label(self.record(cell))

    def samples(self, arm: str, task: TaskRecord | None = None) -> Samples:
        """Samples of an arm, of one task at one length or of all."""
        if task is not None:
            return self.groups.get((arm, cell_of(task)), ())
        return tuple(s for (name, _), found in self.groups.items() if name == arm for s in found)

    def judged_samples(self, arm: str) -> Samples:
        """Samples of an arm at the length at which criteria are judged."""
        return tuple(s for task in self.judged_tasks for s in self.samples(arm, task))

    def not_applicable(self, arm: str, task: TaskRecord) -> str | None:
        """Why an arm cannot take part at the length of a task; None when it can."""
        for found in self.run.not_applicable:
            if (found.arm, found.context_tokens) == (arm, task.context_tokens):
                return found.reason
        return None

    def was_asked(self, arm: str, task: TaskRecord) -> bool:
        """Whether the run meant the arm to answer a task; a merged run need not for all of them."""
        if self.not_applicable(arm, task) is not None:
            return False
        return not self.run.parts or any(
            arm in part.arms
            and task.name in part.tasks
            and part.context_tokens == task.context_tokens
            for part in self.run.parts
        )

    def missing(self, arm: str, task: TaskRecord | None = None) -> int:
        """How many samples of the arm the run announced and did not record."""
        tasks = self.run.tasks if task is None else (task,)
        return sum(
            max(0, t.num_samples - len(self.samples(arm, t)))
            for t in tasks
            if self.was_asked(arm, t)
        )

    def incomplete(self, arm: ArmRecord, task: TaskRecord | None = None) -> str | None:
        """Why an arm is not whole, as the end of a sentence; None when it is."""
        missing = self.missing(arm.name, task)
        if missing > 0:
            return f"{missing:,} samples of arm {arm.name} are missing; run the command again"
        if not arm.complete:
            return f"arm {arm.name} did not finish; run the command again"
        return None


def load_evidence(run_dir: Path) -> Evidence:
    """Read a run directory.

    A run without a memory file is read as one without memory readings.

    Raises:
        UsageError: A record is missing, broken, of another version or contradicts another one.
    """
    with _no_collector():
        return _load(run_dir)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Records hold no cycles, and the collector would walk over all of them again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _load(run_dir: Path) -> Evidence:
    run = read_json(run_dir / RUN_FILE, RunRecord)
    path = run_dir / SAMPLES_FILE
    arms = {arm.name for arm in run.arms}
    announced = {cell_of(task): task.num_samples for task in run.tasks}
    lengths: dict[str, list[int]] = defaultdict(list)
    for task in run.tasks:
        lengths[task.name].append(task.context_tokens)
    if len(arms) < len(run.arms) or len(announced) < len(run.tasks):
        raise UsageError(f"{run_dir / RUN_FILE} lists an arm or a task twice; repeat the run")
    groups: dict[tuple[str, Cell], list[SampleRecord]] = defaultdict(list)
    seen: set[tuple[str, Cell, str]] = set()
    for sample in read_jsonl(path, SampleRecord):
        cell, fault = _cell(sample, lengths)
        fault = fault or _fault(sample, arms)
        key = (sample.arm, cell, sample.sample_id)
        if key in seen:
            fault = "stands there twice"
        if fault:
            raise UsageError(
                f"{path}: sample {sample.sample_id[:80]!r} of arm {sample.arm[:80]!r} {fault}; "
                "the file was edited or mixed with another run: restore it or repeat the run"
            )
        seen.add(key)
        groups[sample.arm, cell].append(sample)
        if len(groups[sample.arm, cell]) > announced[cell]:
            raise UsageError(
                f"{path} holds more samples of task {sample.task[:80]!r} than the "
                f"{announced[cell]:,} that run.json announces; repeat the run"
            )
    memory: dict[str, list[MemoryRecord]] = defaultdict(list)
    if stored(run_dir / MEMORY_FILE).exists():
        for tick in read_jsonl(run_dir / MEMORY_FILE, MemoryRecord):
            memory[tick.arm].append(tick)
    return Evidence(
        run=run,
        groups={key: tuple(sorted(found, key=lambda s: s.index)) for key, found in groups.items()},
        memory={
            arm: tuple(sorted(ticks, key=lambda tick: tick.seconds))
            for arm, ticks in memory.items()
        },
    )


def _cell(sample: SampleRecord, lengths: Mapping[str, Sequence[int]]) -> tuple[Cell, str | None]:
    """Where a sample belongs, and what stands against it.

    Samples of runs that had one length do not name it.
    """
    known, tokens = lengths.get(sample.task, ()), sample.nominal_tokens
    if not known:
        fault = f"belongs to task {sample.task[:80]!r}, which run.json does not list"
    elif tokens in known or (tokens is None and len(known) == 1):
        return Cell(sample.task, known[0] if tokens is None else tokens), None
    elif tokens is None:
        fault = f"does not say at which length task {sample.task[:80]!r} was asked"
    else:
        fault = (
            f"belongs to task {sample.task[:80]!r} at {tokens:,} tokens, which run.json does "
            "not list"
        )
    return Cell(sample.task, tokens or 0), fault


def _fault(sample: SampleRecord, arms: Container[str]) -> str | None:
    if sample.arm not in arms:
        return "belongs to an arm that run.json does not list"
    if sample.scores.get("exact_match") not in (0.0, 1.0):
        return "has no exact_match of 0 or 1"
    if not all(0 <= score <= 1 for score in sample.scores.values()):  # what is no number is neither
        return "has a score outside 0 to 1"
    if sample.context_tokens <= 0:
        return f"has a context of {sample.context_tokens} tokens"
    return None
