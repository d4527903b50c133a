"""The samples worth reading: what an arm got wrong, or a control got right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from gistbench.metrics import format_percent
from gistbench.records import SampleRecord
from gistbench.report.card import FailedSample, FailureList
from gistbench.report.controls import CONTROLS
from gistbench.report.evidence import Evidence
from gistbench.report.page.visible_text import cut, cut_note, visible, visible_ends
from gistbench.report.sections.columns import main_arms
from gistbench.report.sections.depth import depth_of

MAX_PER_ARM = 20
MAX_PER_RIVAL = 3
MAX_CHARACTERS = 500
MAX_NEEDLE = 200
MAX_NAME = 80


def failure_lists(evidence: Evidence) -> tuple[FailureList, ...]:
    """One list per arm, in the order of the arms.

    A control is meant to be wrong, so for it the right answers are listed. Tasks take turns, so
    that the first samples shown are of as many tasks as there can be.
    """
    lists, main = [], main_arms(evidence)
    for arm in evidence.run.arms:
        control = arm.name in CONTROLS
        samples = evidence.samples(arm.name)
        found = _in_turns([s for s in samples if (s.scores["exact_match"] == 1) == control])
        limit = MAX_PER_ARM if arm.name in main else MAX_PER_RIVAL
        kind = "right, though a control should know nothing" if control else "not exactly right"
        more = len(found) - limit
        lists.append(
            FailureList(
                arm=arm.name,
                heading=f"{len(found):,} of {len(samples):,} {kind}",
                samples=tuple(_shown(sample) for sample in found[:limit]),
                more=f"{more:,} more are not shown; all are in samples.jsonl" if more > 0 else "",
            )
        )
    return tuple(lists)


def _in_turns(samples: Sequence[SampleRecord]) -> list[SampleRecord]:
    """The first sample of every task and length, then the second, and so on."""
    turns: dict[tuple[str, int | None], int] = defaultdict(int)
    ranked = []
    for sample in samples:
        cell = sample.task, sample.nominal_tokens
        ranked.append((turns[cell], sample))
        turns[cell] += 1
    return [sample for _, sample in sorted(ranked, key=lambda found: found[0])]


def _shown(sample: SampleRecord) -> FailedSample:
    before, needle, after, excerpt_cut = _around_needle(sample.excerpt, sample.excerpt_needle)
    output, output_cut = cut(sample.output, MAX_CHARACTERS)
    expected, _ = cut(sample.expected, MAX_CHARACTERS)
    depth = depth_of(sample)
    return FailedSample(
        sample_id=visible(cut(sample.sample_id, MAX_NAME)[0]),
        task=sample.task,
        depth="" if depth is None else f"needle at {format_percent(depth)}",
        before=visible(before),
        needle=visible(needle),
        after=visible(after),
        excerpt_cut=cut_note(excerpt_cut),
        expected=visible_ends(expected),
        output=visible_ends(output),
        output_cut=cut_note(output_cut),
    )


def _around_needle(excerpt: str, needle: str) -> tuple[str, str, str, int]:
    """Split an excerpt at its needle and cut all of it to `MAX_CHARACTERS`."""
    place = excerpt.find(needle) if needle else -1
    if place < 0:
        text, number = cut(excerpt, MAX_CHARACTERS)
        return text, "", "", number
    shown, cut_within = cut(needle, MAX_NEEDLE)
    side = (MAX_CHARACTERS - len(shown)) // 2
    before, cut_before = cut(excerpt[:place], side, keep_end=True)
    after, cut_after = cut(excerpt[place + len(needle) :], side)
    return before, shown, after, cut_before + cut_within + cut_after
