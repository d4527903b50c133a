"""What a run left behind, read once and checked for being whole.

A report is only as good as its records, so nothing that contradicts itself gets further than here:
a sample counted twice, an arm or task that run.json does not know, a score that is no score.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from gistbench.errors import UsageError
from gistbench.records import (
    MEMORY_FILE,
    RUN_FILE,
    SAMPLES_FILE,
    ArmRecord,
    MemoryRecord,
    RunRecord,
    SampleRecord,
    TaskRecord,
    read_json,
    read_jsonl,
)

PASSKEY_FAMILY = "niah_passkey"

Samples = tuple[SampleRecord, ...]


@dataclass(frozen=True)
class Evidence:
    """The records of one run, grouped.

    Attributes:
        groups: (arm, task) -> samples in the order of their index.
        memory: arm -> its ticks, in time order.
    """

    run: RunRecord
    groups: Mapping[tuple[str, str], Samples]
    memory: Mapping[str, tuple[MemoryRecord, ...]]

    def arm(self, name: str) -> ArmRecord | None:
        """The arm of that name, if it ran."""
        return next((arm for arm in self.run.arms if arm.name == name), None)

    def task(self, name: str) -> TaskRecord | None:
        """The task of that name, if it ran."""
        return next((task for task in self.run.tasks if task.name == name), None)

    def samples(self, arm: str, task: str | None = None) -> Samples:
        """Samples of an arm, of one task or of all."""
        if task is not None:
            return self.groups.get((arm, task), ())
        return tuple(s for (name, _), found in self.groups.items() if name == arm for s in found)

    def missing(self, arm: str, task: str | None = None) -> int:
        """How many samples of the arm the run announced and did not record."""
        tasks = [found for found in self.run.tasks if task in (None, found.name)]
        return sum(max(0, t.num_samples - len(self.samples(arm, t.name))) for t in tasks)

    def incomplete(self, arm: ArmRecord, task: str | None = None) -> str | None:
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
    run = read_json(run_dir / RUN_FILE, RunRecord)
    path = run_dir / SAMPLES_FILE
    arms = {arm.name for arm in run.arms}
    tasks = {task.name: task.num_samples for task in run.tasks}
    if len(arms) < len(run.arms) or len(tasks) < len(run.tasks):
        raise UsageError(f"{run_dir / RUN_FILE} lists an arm or a task twice; repeat the run")
    groups: dict[tuple[str, str], list[SampleRecord]] = defaultdict(list)
    seen: set[tuple[str, str, str]] = set()
    for sample in read_jsonl(path, SampleRecord):
        key = (sample.arm, sample.task, sample.sample_id)
        fault = _fault(sample, arms, tasks)
        if key in seen:
            fault = "stands there twice"
        if fault:
            raise UsageError(
                f"{path}: sample {sample.sample_id[:80]!r} of arm {sample.arm[:80]!r} {fault}; "
                "the file was edited or mixed with another run: restore it or repeat the run"
            )
        seen.add(key)
        groups[sample.arm, sample.task].append(sample)
        if len(groups[sample.arm, sample.task]) > tasks[sample.task]:
            raise UsageError(
                f"{path} holds more samples of task {sample.task[:80]!r} than the "
                f"{tasks[sample.task]:,} that run.json announces; repeat the run"
            )
    memory: dict[str, list[MemoryRecord]] = defaultdict(list)
    if (run_dir / MEMORY_FILE).exists():
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


def _fault(sample: SampleRecord, arms: Container[str], tasks: Container[str]) -> str | None:
    if sample.arm not in arms:
        return "belongs to an arm that run.json does not list"
    if sample.task not in tasks:
        return f"belongs to task {sample.task[:80]!r}, which run.json does not list"
    if sample.scores.get("exact_match") not in (0.0, 1.0):
        return "has no exact_match of 0 or 1"
    if not all(math.isfinite(score) and 0 <= score <= 1 for score in sample.scores.values()):
        return "has a score outside 0 to 1"
    if sample.context_tokens <= 0:
        return f"has a context of {sample.context_tokens} tokens"
    return None
