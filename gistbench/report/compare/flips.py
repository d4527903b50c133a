"""Which prompts flipped: right in the reference and wrong in a run, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from gistbench.report.compare.records import Flip, FlipGroup, FlipList, RunPair
from gistbench.report.compare.sides import Answer, Side
from gistbench.report.evidence import Cell
from gistbench.report.page.visible_text import cut, cut_note, visible, visible_ends

SHOWN = 5
SHOWN_OF_RIVALS = 2
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
    before = reference.answers[pair.reference_arm, cell].by_prompt
    after = side.answers[pair.arm, cell].by_prompt
    flipped: dict[Literal["lost", "gained"], list[tuple[Answer, Answer]]]
    flipped = {"lost": [], "gained": []}
    for prompt, answer in after.items():
        earlier = before.get(prompt)
        if earlier is not None and earlier.right != answer.right:
            flipped["lost" if earlier.right else "gained"].append((earlier, answer))
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
            sample_ids=tuple(answer.sample_id for _, answer in found),
            shown=tuple(_flip(earlier, answer) for earlier, answer in found[:limit]),
        )


def _flip(before: Answer, after: Answer) -> Flip:
    return Flip(
        sample_id=visible(cut(after.sample_id, MAX_NAME)[0]),
        expected=visible_ends(after.expected),
        before=visible_ends(before.output),
        before_cut=cut_note(before.output_cut),
        after=visible_ends(after.output),
        after_cut=cut_note(after.output_cut),
    )
