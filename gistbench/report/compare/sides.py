"""The runs that are compared, read and told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gistbench.errors import UsageError
from gistbench.records import SampleRecord, TaskRecord, Timing
from gistbench.report.card import ArmFigures, Check, Verdict
from gistbench.report.controls import CONTROLS
from gistbench.report.criteria import load_criteria
from gistbench.report.discrimination import task_status
from gistbench.report.evidence import GIST, Cell, Evidence, cell_of, load_evidence
from gistbench.report.page.visible_text import cut, visible
from gistbench.report.sections.figures import arm_figures
from gistbench.report.validity import shown_checks, validity_checks
from gistbench.report.verdicts import judge_run

MOST_RUNS = 8
MAX_LABEL = 40
MAX_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, as far as a comparison shows it; `output_cut` characters are left out."""

    sample_id: str
    right: bool
    expected: str
    output: str
    output_cut: int


@dataclass(frozen=True, slots=True)
class Answers:
    """What one arm of one run answered on one task: all that pairing it needs.

    Attributes:
        by_prompt: Prompt hash -> answer.
        doubt: Why these answers get no verdict, whatever they are; empty where they may.
        counts: Whether the task can tell arms apart, as far as the run knows.
    """

    task: TaskRecord
    by_prompt: Mapping[str, Answer]
    doubt: str
    counts: bool

    @property
    def right(self) -> dict[str, bool]:
        """Prompt hash -> whether the answer was exactly right."""
        return {prompt: answer.right for prompt, answer in self.by_prompt.items()}


@dataclass(frozen=True)
class Side:
    """One run of a comparison, small enough that many can be held at once.

    Attributes:
        label: What it is called.
        evidence: Its records, without samples and memory ticks.
        figures: arm -> its accuracy and costs.
        verdicts: On the criteria.
        checks: Whether it can be believed, for a reader, the worst first.
        answers: (arm, cell) -> what an arm that is no control answered.
        batch_sizes: arm -> samples of the largest batch that was timed at the judged length.
    """

    label: str
    folder: Path
    evidence: Evidence
    figures: Mapping[str, ArmFigures]
    verdicts: tuple[Verdict, ...]
    checks: tuple[Check, ...]
    answers: Mapping[tuple[str, Cell], Answers]
    batch_sizes: Mapping[str, int]

    @property
    def leaks(self) -> tuple[str, ...]:
        """What its controls knew and could not know."""
        return tuple(check.text for check in self.checks if check.status == "INVALID-LEAK")

    def task(self, cell: Cell) -> TaskRecord | None:
        """The task of a cell, if the run has it."""
        return next((task for task in self.evidence.run.tasks if cell_of(task) == cell), None)


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
    sides: list[Side] = []
    for label, folder in zip(labels(run_dirs), run_dirs, strict=True):
        side = read_side(label, folder)
        _require_common_task(sides[0] if sides else side, side)
        sides.append(side)
    return tuple(sides)


def read_side(label: str, folder: Path) -> Side:
    """Read a run and keep what a comparison needs of it.

    Raises:
        UsageError: It cannot be read.
    """
    evidence = load_evidence(folder)
    findings = validity_checks(evidence)
    return Side(
        label=label,
        folder=folder,
        evidence=replace(evidence, groups={}, memory={}),
        figures={arm.name: arm for arm in arm_figures(evidence)},
        verdicts=judge_run(load_criteria(), evidence),
        checks=shown_checks(evidence),
        answers={
            (arm, cell): _answers(label, evidence, arm, cell, findings)
            for arm, cell in evidence.groups
            if arm not in CONTROLS
        },
        batch_sizes={arm: _batch_size(evidence, arm) for arm in evidence.arm_names},
    )


def _require_common_task(reference: Side, side: Side) -> None:
    one, two = (
        dict.fromkeys(task.name for task in found.evidence.run.tasks) for found in (reference, side)
    )
    if not one.keys() & two.keys():
        there, here = (visible(", ".join(names)) or "nothing" for names in (one, two))
        raise UsageError(
            f"{side.folder} has no task in common with the reference {reference.folder} ({there} "
            f"there, {here} here); compare runs of the same task"
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


def _answers(
    label: str, evidence: Evidence, arm: str, cell: Cell, findings: Sequence[Check]
) -> Answers:
    task, samples = evidence.record(cell), evidence.groups[arm, cell]
    found = {sample.prompt_sha256: _answer(sample) for sample in samples}
    doubt = ""
    if len(found) < len(samples):
        doubt = f"prompts that stand twice in {label}: {len(samples) - len(found):,}"
    elif arm == GIST:
        doubt = _doubt(label, evidence.label(task), findings)
    counts = task_status(evidence, task).discriminative is not False
    return Answers(task=task, by_prompt=found, doubt=doubt, counts=counts)


def _answer(sample: SampleRecord) -> Answer:
    output, output_cut = cut(sample.output, MAX_CHARACTERS)
    return Answer(
        sample_id=sample.sample_id,
        right=sample.scores["exact_match"] == 1,
        expected=cut(sample.expected, MAX_CHARACTERS)[0],
        output=output,
        output_cut=output_cut,
    )


def _doubt(label: str, task: str, findings: Sequence[Check]) -> str:
    """Why gist's answers to a task get no verdict: a leak anywhere, or an invalid task."""
    for check in findings:
        if check.status == "INVALID-LEAK":
            return f"INVALID-LEAK in {label}: its gist answers cannot be believed"
        if check.status == "INVALID" and check.blocks and check.task in (None, task):
            return f"INVALID in {label}: {check.text}"
    return ""


def _batch_size(evidence: Evidence, arm: str) -> int:
    timings = [sample.timing for sample in evidence.judged_samples(arm)]
    return max((found.batch_size for found in timings if isinstance(found, Timing)), default=0)
