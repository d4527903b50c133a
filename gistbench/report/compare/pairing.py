"""Which arms of two runs are set against each other, and what their prompts in common say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gistbench.errors import UsageError, did_you_mean
from gistbench.records import TaskRecord
from gistbench.report.compare.records import RunPair, Unpaired
from gistbench.report.compare.sides import Answers, Side
from gistbench.report.controls import CONTROLS
from gistbench.report.evidence import FULL, GIST, TUNED, Cell
from gistbench.report.ladder import PairedRow
from gistbench.report.sections.pairings import Pairing, judge_family, tally
from gistbench.report.statistics import PairedDifference, paired_difference

FEW_ARMS = 6
SCORING = {
    "version": "another version of the task",
    "generation": "other generation settings",
    "exact_match_means": "another meaning of exact match",
}
"""Fields of a task on which an answer to the same prompt, or its score, depends."""


class ArmPair(NamedTuple):
    """An arm of the later runs, and the arm of the reference that it is set against."""

    arm: str
    reference: str

    @property
    def title(self) -> str:
        """How the two are called."""
        if self.arm == self.reference:
            return self.arm
        return f"{self.arm} against {self.reference} of the reference"


def arm_pairs(sides: Sequence[Side], wanted: Iterable[str] = ()) -> tuple[ArmPair, ...]:
    """The arms to compare.

    Args:
        sides: The runs, the reference first.
        wanted: ``ARM``, or ``ARM:ARM_OF_THE_REFERENCE``; none for every arm that the reference and
            another run share, controls last.

    Raises:
        UsageError: An arm that no run has, a control, or nothing to compare.
    """
    there = list(sides[0].evidence.arm_names)
    here = list(dict.fromkeys(arm for side in sides[1:] for arm in side.evidence.arm_names))
    pairs = []
    for word in wanted:
        arm, colon, reference = word.partition(":")
        pair = ArmPair(arm, reference if colon else arm)
        for name, known, whose in (
            (pair.reference, there, "the reference has"),
            (pair.arm, here, "the later runs have"),
        ):
            if name not in known:
                raise UsageError(
                    f"--arms {word!r}: {whose} no arm {name!r}; {did_you_mean(name, known)}"
                )
            if name in CONTROLS:
                raise UsageError(
                    f"--arms {word!r}: {name} is a control, which is shown and gets no verdict; "
                    "name arms that are none"
                )
        pairs.append(pair)
    if pairs:
        return tuple(dict.fromkeys(pairs))
    shared = sorted((arm for arm in there if arm in here), key=_rank)
    if all(arm in CONTROLS for arm in shared):
        raise UsageError(
            f"the runs have no arm in common ({', '.join(there)} in the reference, "
            f"{', '.join(here)} in the others); set one against another with --arms ARM:ARM, "
            "the reference's last"
        )
    return tuple(ArmPair(arm, arm) for arm in shared)


def is_main(pair: ArmPair, pairs: Sequence[ArmPair]) -> bool:
    """Whether a pair of arms stands open: all do where they are few."""
    judged = [found for found in pairs if found.arm not in CONTROLS]
    return len(judged) <= FEW_ARMS or pair.arm in (GIST, FULL, TUNED)


def run_pairs(
    sides: Sequence[Side], pairs: Sequence[ArmPair], labels: Mapping[Cell, str]
) -> tuple[RunPair, ...]:
    """Every arm of every later run against the reference; controls are judged by themselves."""
    return tuple(
        run_pair(sides[0], side, pair, labels, main=is_main(pair, pairs))
        for pair in pairs
        if pair.arm not in CONTROLS
        for side in sides[1:]
        if pair.arm in side.evidence.arm_names
    )


def run_pair(
    reference: Side, side: Side, pair: ArmPair, labels: Mapping[Cell, str], *, main: bool = True
) -> RunPair:
    """One arm of a run against the reference: a verdict where prompts are the same."""
    found, unpaired = [], []
    for cell, label in labels.items():
        before = reference.answers.get((pair.reference, cell))
        after = side.answers.get((pair.arm, cell))
        if before is None or after is None:
            if reference.task(cell) is not None and side.task(cell) is not None:
                silent = reference.label if before is None else side.label
                arm = pair.reference if before is None else pair.arm
                unpaired.append(Unpaired(task=label, reason=f"no answers of {arm} in {silent}"))
            continue
        paired = pair_answers(after, before)
        if isinstance(paired, str):
            reason = paired or why_other_prompts(reference, side, before.task, after.task)
            unpaired.append(Unpaired(task=label, reason=reason))
            continue
        found.append(
            Pairing(
                task=label,
                paired=paired,
                unpaired=len(before.by_prompt.keys() ^ after.by_prompt.keys()),
                chance_floor=after.task.chance_floor,
                counts=before.counts and after.counts,
            )
        )
    first, second = side.label, reference.label
    if pair.arm != pair.reference:
        first, second = f"{pair.arm} of {first}", f"{pair.reference} of {second}"
    rows = judge_family(first, second, found)
    return RunPair(
        run=side.label,
        arm=pair.arm,
        reference_arm=pair.reference,
        first=first,
        second=second,
        main=main,
        text=_in_words(pair, first, second, rows, unpaired),
        rows=rows,
        unpaired=tuple(unpaired),
    )


def pair_answers(after: Answers, before: Answers) -> PairedDifference | str:
    """Later answers minus earlier ones on the same prompts, or why there is no such difference.

    The reason is empty where no prompt is the same: why that is, only the runs can tell.
    """
    if doubt := after.doubt or before.doubt:
        return doubt
    for field, words in SCORING.items():
        one, two = getattr(before.task, field), getattr(after.task, field)
        if one != two:
            return f"{words}: {_differing(one, two)}"
    if not after.by_prompt.keys() & before.by_prompt.keys():
        return ""
    return paired_difference(after.right, before.right)


def why_other_prompts(reference: Side, side: Side, before: TaskRecord, after: TaskRecord) -> str:
    """Why two runs of a task have no prompt in common, as far as their records tell."""
    one, two = reference.evidence.run, side.evidence.run
    reasons = []
    if before.seed != after.seed:
        reasons.append(f"another seed, {before.seed} there and {after.seed} here")
    if before.split != after.split:
        reasons.append(f"another split, {before.split} there and {after.split} here")
    if one.base.fingerprint != two.base.fingerprint:
        reasons.append("another base model, and documents are cut to length in its own tokens")
    for field in ("haystack", "data_file"):
        if one.settings.get(field) != two.settings.get(field):
            reasons.append(f"another {field.replace('_', ' ')}")
    return "no prompt in common: " + ("; ".join(reasons) or "the documents are others")


def _differing(one: object, two: object) -> str:
    if isinstance(one, dict) and isinstance(two, dict):
        keys = [key for key in sorted({*one, *two}) if one.get(key) != two.get(key)]
        return ", ".join(f"{key} {one.get(key)} there and {two.get(key)} here" for key in keys)
    return f"{one or 'the usual'} there and {two or 'the usual'} here"


def _in_words(
    pair: ArmPair,
    first: str,
    second: str,
    rows: Sequence[PairedRow],
    unpaired: Sequence[Unpaired],
) -> str:
    sides = f"{first} against {second}"
    about = sides if pair.arm != pair.reference else f"{pair.arm}, {sides}"
    if len(rows) == 1:
        (row,) = rows
        gap = row.difference
        said = (
            f"{about} on {row.task}: {row.verdict}, {gap.text} "
            f"({gap.detail.removeprefix('Newcombe ')})"
        )
        if not row.counts:
            said += ", and the task is not discriminative"
    elif rows:
        counted = sum(row.counts for row in rows)
        said = f"{about} on {counted} task{'' if counted == 1 else 's'}: {tally(rows)}"
        if left_out := len(rows) - counted:
            said += f"; {left_out} not discriminative and not counted"
    elif not unpaired:
        return f"{about}: no task in common at the same length"
    else:
        said = f"{about}: no paired verdict"
    if rows and not any(row.only_first + row.only_second for row in rows):
        said += "; no prompt flipped"
    reasons = list(dict.fromkeys(found.reason for found in unpaired))
    if reasons:
        tasks = ", ".join(found.task for found in unpaired)
        why = reasons[0] if len(reasons) == 1 else "reasons below"
        said += f"; none on {tasks}, {why}" if rows else f" on {tasks}, {why}"
    return said


def _rank(arm: str) -> tuple[bool, bool]:
    return arm in CONTROLS, arm not in (GIST, FULL, TUNED)
