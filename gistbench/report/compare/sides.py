"""The runs that are compared, read and told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gistbench.errors import UsageError
from gistbench.records import TaskRecord
from gistbench.report.card import ArmFigures, Check, Verdict
from gistbench.report.criteria import load_criteria
from gistbench.report.discrimination import task_status
from gistbench.report.evidence import GIST, Cell, Evidence, Samples, cell_of, load_evidence
from gistbench.report.page.visible_text import cut, visible
from gistbench.report.sections.figures import arm_figures
from gistbench.report.validity import shown_checks, validity_checks
from gistbench.report.verdicts import judge_run

MOST_RUNS = 8
MAX_LABEL = 40


@dataclass(frozen=True)
class Side:
    """One run of a comparison.

    Attributes:
        label: What it is called.
        figures: arm -> its accuracy and costs.
        verdicts: On the criteria.
        checks: Whether it can be believed, for a reader, the worst first.
        findings: The same with each control on each task by itself.
    """

    label: str
    folder: Path
    evidence: Evidence
    figures: Mapping[str, ArmFigures]
    verdicts: tuple[Verdict, ...]
    checks: tuple[Check, ...]
    findings: tuple[Check, ...]

    @property
    def leaks(self) -> tuple[str, ...]:
        """What its controls knew and could not know."""
        return tuple(check.text for check in self.checks if check.status == "INVALID-LEAK")

    def task(self, cell: Cell) -> TaskRecord | None:
        """The task of a cell, if the run has it."""
        return next((task for task in self.evidence.run.tasks if cell_of(task) == cell), None)


@dataclass(frozen=True)
class Answers:
    """What one arm of one run answered on one task: all that pairing it needs.

    Attributes:
        right: Prompt hash -> whether the answer was exactly right.
        doubt: Why these answers get no verdict, whatever they are; empty where they may.
        counts: Whether the task can tell arms apart, as far as the run knows.
    """

    task: TaskRecord
    right: Mapping[str, bool]
    doubt: str
    counts: bool


def load_sides(run_dirs: Sequence[Path]) -> tuple[Side, ...]:
    """Read the runs, the reference first.

    Raises:
        UsageError: Too few or too many, one of them twice, or one that is no run.
    """
    if len(run_dirs) < 2:
        given = f"{len(run_dirs)} run{'' if len(run_dirs) == 1 else 's'}"
        raise UsageError(
            f"a comparison needs at least two runs, and {given} is named; pass "
            "`gistbench compare RUN_A RUN_B`, the reference first"
        )
    if len(run_dirs) > MOST_RUNS:
        raise UsageError(
            f"{len(run_dirs)} runs are named, and {MOST_RUNS} is what stands side by side on a "
            "page; name fewer, or pass their folder to `gistbench history`"
        )
    seen: dict[Path, Path] = {}
    for folder in run_dirs:
        real = folder.resolve()
        if real in seen:
            raise UsageError(
                f"{folder} is the same folder as {seen[real]}, and a run does not differ from "
                "itself; name each run once"
            )
        seen[real] = folder
    read = [load_evidence(folder) for folder in run_dirs]
    for folder, evidence in zip(run_dirs, read, strict=True):
        require_common_task(run_dirs[0], read[0], folder, evidence)
    return tuple(
        side_of(label, folder, evidence)
        for label, folder, evidence in zip(labels(run_dirs), run_dirs, read, strict=True)
    )


def require_common_task(first_dir: Path, first: Evidence, folder: Path, other: Evidence) -> None:
    """Refuse a run that was asked nothing that the reference was asked.

    Raises:
        UsageError: Names what either was asked.
    """
    names = [list(dict.fromkeys(task.name for task in found.run.tasks)) for found in (first, other)]
    if not set(names[0]) & set(names[1]):
        one, two = (visible(", ".join(found)) or "nothing" for found in names)
        raise UsageError(
            f"{folder} has no task in common with the reference {first_dir} ({one} there, {two} "
            "here); compare runs of the same task"
        )


def labels(folders: Sequence[Path]) -> tuple[str, ...]:
    """A short name for each run: of its folder, with those above it where two are alike."""
    parts = [folder.resolve().parts for folder in folders]
    depth = [1] * len(folders)
    for _ in range(max(map(len, parts))):
        names = ["/".join(found[-deep:]) for found, deep in zip(parts, depth, strict=True)]
        twice = [number for number, name in enumerate(names) if names.count(name) > 1]
        for number in twice:
            depth[number] += 1
    # Cut from the front: the end of a path says more than its start.
    short = [cut(visible(name), MAX_LABEL, keep_end=True)[0] for name in names]
    return tuple(
        f"{name} ({number})" if short.count(name) > 1 else name
        for number, name in enumerate(short, start=1)
    )


def answers(side: Side, arm: str, cell: Cell) -> Answers | None:
    """What an arm answered; None where it answered nothing."""
    task = side.task(cell)
    samples = side.evidence.samples(arm, task) if task is not None else ()
    if task is None or not samples:
        return None
    right = right_by_prompt(samples)
    doubt = ""
    if len(right) < len(samples):
        doubt = f"{len(samples) - len(right):,} prompts stand twice in {side.label}"
    elif arm == GIST:
        doubt = _doubt(side, side.evidence.label(task))
    counts = task_status(side.evidence, task).discriminative is not False
    return Answers(task=task, right=right, doubt=doubt, counts=counts)


def right_by_prompt(samples: Samples) -> dict[str, bool]:
    """Prompt hash -> whether the answer was exactly right."""
    return {sample.prompt_sha256: sample.scores["exact_match"] == 1 for sample in samples}


def cells(sides: Sequence[Side]) -> dict[Cell, str]:
    """Every task that two runs have, at every length, and how it is called there."""
    found = dict.fromkeys(cell_of(task) for side in sides for task in side.evidence.run.tasks)
    asked = [{task.name for task in side.evidence.run.tasks} for side in sides]
    names = {cell.task: sum(cell.task in tasks for tasks in asked) for cell in found}
    return {
        cell: name if len(lengths) == 1 else f"{name}, {cell.context_tokens:,} tokens"
        for name, num_runs in names.items()
        if num_runs > 1
        for lengths in (sorted(cell for cell in found if cell.task == name),)
        for cell in lengths
    }


def _doubt(side: Side, label: str) -> str:
    """Why gist's answers to a task get no verdict: a leak anywhere, or an invalid task."""
    for check in side.findings:
        if check.status == "INVALID-LEAK":
            return f"INVALID-LEAK in {side.label}: its gist answers cannot be believed"
        concerns = check.task is None or check.task == label
        if check.status == "INVALID" and check.blocks and concerns:
            return f"INVALID in {side.label}: {check.text}"
    return ""


def side_of(label: str, folder: Path, evidence: Evidence) -> Side:
    """A run with its figures, its verdicts and its checks."""
    return Side(
        label=label,
        folder=folder,
        evidence=evidence,
        figures={arm.name: arm for arm in arm_figures(evidence)},
        verdicts=judge_run(load_criteria(), evidence),
        checks=shown_checks(evidence),
        findings=validity_checks(evidence),
    )
