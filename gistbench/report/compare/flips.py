"""Which prompts flipped: right in the reference and wrong in a run, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from gistbench.records import SampleRecord
from gistbench.report.compare.records import Flip, FlipGroup, FlipList, RunPair
from gistbench.report.compare.sides import Side
from gistbench.report.evidence import Cell
from gistbench.report.page.visible_text import cut, cut_note, visible, visible_ends

SHOWN = 5
SHOWN_OF_RIVALS = 2
MAX_CHARACTERS = 200
MAX_NAME = 80


def flip_groups(
    sides: Sequence[Side], compared: Sequence[RunPair], labels: Mapping[Cell, str]
) -> tuple[FlipGroup, ...]:
    """The flips of every arm of every later run, on the tasks that have a paired verdict."""
    by_label = {side.label: side for side in sides}
    groups = []
    for pair in compared:
        tasks = {row.task for row in pair.rows}
        lists = [
            found
            for cell, label in labels.items()
            if label in tasks
            for found in _lists(sides[0], by_label[pair.run], pair, cell, label)
        ]
        lost, gained = (
            sum(len(found.sample_ids) for found in lists if found.kind == kind)
            for kind in ("lost", "gained")
        )
        counts = f"{lost:,} right then wrong, {gained:,} wrong then right"
        if pair.rows:
            groups.append(
                FlipGroup(
                    run=pair.run,
                    arm=pair.arm,
                    first=pair.first,
                    second=pair.second,
                    heading=f"{pair.first} against {pair.second}: "
                    f"{counts if lists else 'no prompt flipped'}",
                    lists=tuple(lists),
                )
            )
    return tuple(groups)


def _lists(
    reference: Side, side: Side, pair: RunPair, cell: Cell, label: str
) -> Iterator[FlipList]:
    before = _by_prompt(reference, pair.reference_arm, cell)
    after = _by_prompt(side, pair.arm, cell)
    flipped: dict[Literal["lost", "gained"], list[SampleRecord]] = {"lost": [], "gained": []}
    for prompt, sample in after.items():
        earlier = before.get(prompt)
        if earlier is not None and _right(earlier) != _right(sample):
            flipped["lost" if _right(earlier) else "gained"].append(sample)
    limit = SHOWN if pair.main else SHOWN_OF_RIVALS
    for kind, found in flipped.items():
        if not found:
            continue
        what = "right then wrong" if kind == "lost" else "wrong then right"
        shown = (
            f"the first {limit} are shown, all ids are in compare.json"
            if len(found) > limit
            else "all are shown"
        )
        yield FlipList(
            task=label,
            kind=kind,
            caption=f"{label}, {what}: {len(found):,} of {len(before.keys() & after.keys()):,} "
            f"prompts in common; {shown}",
            sample_ids=tuple(sample.sample_id for sample in found),
            shown=tuple(_flip(before[s.prompt_sha256], s) for s in found[:limit]),
        )


def _by_prompt(side: Side, arm: str, cell: Cell) -> dict[str, SampleRecord]:
    task = side.task(cell)
    samples = side.evidence.samples(arm, task) if task is not None else ()
    return {sample.prompt_sha256: sample for sample in samples}


def _right(sample: SampleRecord) -> bool:
    return sample.scores["exact_match"] == 1


def _flip(before: SampleRecord, after: SampleRecord) -> Flip:
    (one, one_cut), (two, two_cut) = (cut(s.output, MAX_CHARACTERS) for s in (before, after))
    return Flip(
        sample_id=visible(cut(after.sample_id, MAX_NAME)[0]),
        expected=visible_ends(cut(after.expected, MAX_CHARACTERS)[0]),
        before=visible_ends(one),
        before_cut=cut_note(one_cut),
        after=visible_ends(two),
        after_cut=cut_note(two_cut),
    )
