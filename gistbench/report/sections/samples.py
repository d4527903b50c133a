"""The samples to read: prompts around their needles, and what every arm answered."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from gistbench.judgements import Judgement
from gistbench.metrics import format_percent
from gistbench.records import SampleRecord
from gistbench.report.answers import AnswerShown, PromptGroup, PromptShown, SamplesShown
from gistbench.report.controls import CONTROLS
from gistbench.report.evidence import Evidence
from gistbench.report.page.visible_text import cut, cut_note, visible, visible_ends
from gistbench.report.sections.chosen import SEED, Chosen, Prompt, choose, is_notable
from gistbench.report.sections.columns import main_arms
from gistbench.report.sections.depth import depth_of
from gistbench.report.shown import Line

MAX_SIDE = 300
MAX_CHARACTERS = 500
MAX_NEEDLE = 200
MAX_NAME = 80
PARTS = 5
WRONG = "not exactly right"

LOOSER = {
    "contains": "the expected answer stands in it",
    "string_match_all": "every value is in it",
}
"""Scorers that may disagree with strict exact match, and what they saw if they call it right."""


class Scorers:
    """Where scorers disagree with strict exact match: looser ones, and judges where there were."""

    def __init__(self, judgements: Sequence[Judgement] = ()) -> None:
        self._verdicts: dict[tuple[str, str, str, str], list[Judgement]] = {}
        for found in judgements:
            if found.kind == "answer" and found.verdict is not None:
                key = (found.arm, found.task, found.sample_id, found.output_sha256)
                self._verdicts.setdefault(key, []).append(found)

    def differ(self, sample: SampleRecord) -> str:
        """How they disagree, as the end of a sentence; empty where they agree."""
        right = sample.scores["exact_match"] == 1
        words = [
            seen if not right else f"not so by {name}"
            for name, seen in LOOSER.items()
            if name in sample.scores and (sample.scores[name] == 1) != right
        ]
        if self._verdicts:
            digest = hashlib.sha256(sample.output.encode()).hexdigest()
            key = (sample.arm, sample.task, sample.sample_id, digest)
            words += [
                f"{visible(cut(found.model, MAX_NAME)[0])} calls it {found.verdict}"
                for found in self._verdicts.get(key, ())
                if (found.verdict == "right") != right
            ]
        return "; ".join(words)


def samples_shown(evidence: Evidence, judgements: Sequence[Judgement] = ()) -> SamplesShown:
    """All samples of a small run; of a large one the part that `sections.chosen` chooses."""
    scorers = Scorers(judgements)

    def differs(sample: SampleRecord) -> bool:
        return bool(scorers.differ(sample))

    chosen = choose(evidence, differs)
    tasks = tuple(dict.fromkeys(task.name for task in evidence.run.tasks))
    lengths = sorted({task.context_tokens for task in evidence.run.tasks})
    by_label: dict[str, list[Prompt]] = {}
    for prompt in chosen.prompts:
        by_label.setdefault(evidence.label_of(prompt.key.cell), []).append(prompt)
    groups = tuple(
        PromptGroup(
            label=label,
            heading=_heading(len(prompts), evidence.record(prompts[0].key.cell).num_samples),
            task=prompts[0].key.cell.task,
            length=_length(prompts[0].key.cell.context_tokens),
            prompts=tuple(
                _prompt(prompt, prompt.key in chosen.drawn, scorers) for prompt in prompts
            ),
        )
        for label, prompts in by_label.items()
    )
    shown = [prompt for group in groups for prompt in group.prompts]
    here = {arm for prompt in chosen.prompts for arm in prompt.answers}
    return SamplesShown(
        notes=_notes(evidence, chosen),
        counts=_counts(evidence, chosen, scorers),
        arms=tuple(arm for arm in evidence.arm_names if arm in here),
        tasks=tasks,
        lengths=tuple(_length(tokens) for tokens in lengths),
        depths=tuple(_part(number) for number in range(PARTS))
        if any(prompt.part for prompt in shown)
        else (),
        heading=f"{_answers(chosen):,} answers to {len(chosen.prompts):,} prompts",
        in_brief=main_arms(evidence),
        any_differ=any(answer.differ for prompt in shown for answer in prompt.answers),
        groups=groups,
    )


def _heading(shown: int, announced: int) -> str:
    if shown >= announced:
        return f"{shown:,} prompt{'' if shown == 1 else 's'}"
    return f"{shown:,} of {announced:,} prompts"


def _answers(chosen: Chosen) -> int:
    return sum(len(prompt.answers) for prompt in chosen.prompts)


def _length(tokens: int) -> str:
    return f"{tokens:,} tokens"


def _part(number: int) -> str:
    return f"{100 * number // PARTS} to {100 * (number + 1) // PARTS} %"


def _notes(evidence: Evidence, chosen: Chosen) -> tuple[str, ...]:
    shown = _answers(chosen)
    if chosen.complete:
        return (f"All {shown:,} answers to all {chosen.num_prompts:,} prompts are here.",)
    total = sum(len(samples) for samples in evidence.groups.values())
    notable = len(chosen.prompts) - len(chosen.drawn)
    drawn = (
        f"{len(chosen.drawn):,} prompts were drawn whatever was answered (by a hash of the prompt, "
        f"seed {SEED}, tasks in turn)"
    )
    more = (
        f"; {notable:,} more were chosen because an arm was wrong, a control was right or scorers "
        "disagree (gist and the controls first, tasks in turn, in the order of that hash)"
    )
    notes = [
        f"{shown:,} of {total:,} answers are here, to {len(chosen.prompts):,} of "
        f"{chosen.num_prompts:,} prompts: {drawn}{more if notable else ''}.",
        "The others are in samples.jsonl; gistbench sample RUN_DIR ID prints a whole prompt.",
    ]
    if len(main_arms(evidence)) < len(evidence.arm_names):
        notes.append("Arms with a budget answer here to the drawn prompts alone.")
    return tuple(notes)


def _counts(evidence: Evidence, chosen: Chosen, scorers: Scorers) -> tuple[Line, ...]:
    """For each arm how many answers are worth reading, and how many of those are here."""
    here: dict[str, int] = {}
    for prompt in chosen.prompts:
        for arm, sample in prompt.answers.items():
            here[arm] = here.get(arm, 0) + is_notable(sample, lambda _: False)
    lines = []
    for arm in (found.name for found in evidence.run.arms):
        samples = evidence.samples(arm)
        found = sum(is_notable(sample, lambda _: False) for sample in samples)
        kind = (
            "right, though a control should know nothing"
            if arm in CONTROLS
            else "not exactly right"
        )
        text = f"{found:,} of {len(samples):,} {kind}"
        if disputed := sum(bool(scorers.differ(sample)) for sample in samples):
            text += f"; scorers disagree on {disputed:,}"
        if here.get(arm, 0) < found:
            text += f"; {here.get(arm, 0):,} of the {found:,} are here"
        lines.append(Line(label=arm, text=text))
    return tuple(lines)


def _prompt(prompt: Prompt, drawn: bool, scorers: Scorers) -> PromptShown:
    sample = prompt.any_answer
    before, needle, after, excerpt_cut = _around_needle(sample.excerpt, sample.excerpt_needle)
    depth = depth_of(sample)
    return PromptShown(
        sample_id=visible(cut(sample.sample_id, MAX_NAME)[0]),
        prompt_sha256=visible(cut(sample.prompt_sha256, MAX_NAME)[0]),
        context_tokens=_length(sample.context_tokens),
        depth="" if depth is None else f"needle at {format_percent(depth)}",
        part="" if depth is None else _part(min(int(depth * PARTS), PARTS - 1)),
        before=visible(before),
        needle=visible(needle),
        after=visible(after),
        excerpt_cut=cut_note(excerpt_cut),
        expected=visible_ends(cut(sample.expected, MAX_CHARACTERS)[0]),
        drawn=drawn,
        answers=tuple(_answer(found, scorers) for found in prompt.answers.values()),
    )


def _answer(sample: SampleRecord, scorers: Scorers) -> AnswerShown:
    output, output_cut = cut(sample.output, MAX_CHARACTERS)
    return AnswerShown(
        arm=sample.arm,
        right=sample.scores["exact_match"] == 1,
        control=sample.arm in CONTROLS,
        differ=scorers.differ(sample),
        output=visible_ends(output),
        output_cut=cut_note(output_cut),
    )


def _around_needle(excerpt: str, needle: str) -> tuple[str, str, str, int]:
    """Split an excerpt at its needle and cut it to `MAX_SIDE` characters on either side."""
    place = excerpt.find(needle) if needle else -1
    if place < 0:
        text, number = cut(excerpt, 2 * MAX_SIDE)
        return text, "", "", number
    shown, cut_within = cut(needle, MAX_NEEDLE)
    before, cut_before = cut(excerpt[:place], MAX_SIDE, keep_end=True)
    after, cut_after = cut(excerpt[place + len(needle) :], MAX_SIDE)
    return before, shown, after, cut_before + cut_within + cut_after
