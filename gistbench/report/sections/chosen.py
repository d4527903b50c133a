"""Which prompts a scorecard shows with their answers: all, or a part that is the same every time.

A large run shows two parts, so that neither is taken for the other: a drawn one, chosen whatever
was answered, and the answers worth reading, which are the wrong ones of an arm, the right ones of a
control, and those that scorers disagree on. What the run is about comes first, gist and its
controls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple

from gistbench.records import SampleRecord
from gistbench.report.controls import CONTROLS
from gistbench.report.evidence import GIST, Cell, Evidence
from gistbench.report.sections.columns import main_arms

ALL_ANSWERS = 2_000
"""Up to so many answers all of them are shown."""
MAX_DRAWN = 60
MAX_NOTABLE = 300
SEED = 0

Notable = Callable[[SampleRecord], bool]


class PromptKey(NamedTuple):
    """What makes it the same prompt for every arm."""

    cell: Cell
    sample_id: str
    prompt_sha256: str


@dataclass(frozen=True)
class Prompt:
    """A prompt and what each arm answered."""

    key: PromptKey
    answers: dict[str, SampleRecord] = field(default_factory=dict)

    @property
    def any_answer(self) -> SampleRecord:
        """Of whichever arm; what it says of the prompt is the same for all."""
        return next(iter(self.answers.values()))


@dataclass(frozen=True)
class Chosen:
    """The prompts to show.

    Attributes:
        prompts: With their answers, by task and length, then in the order of their index.
        drawn: Those among them that were drawn; empty if all are shown.
        complete: Whether every answer of the run is here.
        num_prompts: Of the whole run.
    """

    prompts: tuple[Prompt, ...]
    drawn: frozenset[PromptKey]
    complete: bool
    num_prompts: int


def choose(evidence: Evidence, differ: Notable) -> Chosen:
    """Choose what to show.

    Of a large run, answers of arms with a budget are kept for the drawn prompts alone: thirty of
    them to each prompt would bury the others.

    Args:
        evidence: The run.
        differ: Whether scorers disagree on an answer.
    """
    prompts = _prompts(evidence)
    total = sum(len(prompt.answers) for prompt in prompts.values())
    if total <= ALL_ANSWERS:
        return Chosen(tuple(prompts.values()), frozenset(), True, len(prompts))
    main = main_arms(evidence)
    by_cell: dict[Cell, list[PromptKey]] = {}
    for key in prompts:
        by_cell.setdefault(key.cell, []).append(key)
    drawn = frozenset(_in_turns(map(_shuffled, by_cell.values()), MAX_DRAWN))

    def notable(arms: Iterable[str]) -> list[list[PromptKey]]:
        return [
            _shuffled(
                key
                for key in keys
                if key not in drawn
                and (sample := prompts[key].answers.get(arm))
                and is_notable(sample, differ)
            )
            for arm in arms
            for keys in by_cell.values()
        ]

    first = [arm for arm in main if arm == GIST or arm in CONTROLS]
    worth = _in_turns(notable(first), MAX_NOTABLE)
    rest = _in_turns(notable(arm for arm in main if arm not in first), MAX_NOTABLE)
    wanted = drawn | set(list(dict.fromkeys([*worth, *rest]))[:MAX_NOTABLE])
    kept = []
    for key, prompt in prompts.items():
        if key in drawn:
            kept.append(prompt)
        elif key in wanted:
            answers = {arm: found for arm, found in prompt.answers.items() if arm in main}
            kept.append(Prompt(key, answers))
    return Chosen(tuple(kept), drawn, False, len(prompts))


def is_notable(sample: SampleRecord, differ: Notable) -> bool:
    """Whether an answer is worth reading: wrong, right by a control, or in dispute."""
    right = sample.scores["exact_match"] == 1
    return right == (sample.arm in CONTROLS) or differ(sample)


def _prompts(evidence: Evidence) -> dict[PromptKey, Prompt]:
    """All prompts, tasks and lengths in the run's order, then by index."""
    found: dict[PromptKey, Prompt] = {}
    for task in evidence.run.tasks:
        cell = Cell(task.name, task.context_tokens)
        of_cell: dict[PromptKey, Prompt] = {}
        for arm in evidence.arm_names:
            for sample in evidence.samples(arm, task):
                key = PromptKey(cell, sample.sample_id, sample.prompt_sha256)
                of_cell.setdefault(key, Prompt(key)).answers[arm] = sample
        found |= sorted(of_cell.items(), key=lambda item: item[1].any_answer.index)
    return found


def _shuffled(keys: Iterable[PromptKey]) -> list[PromptKey]:
    """In an order that depends on the seed and the prompts alone, not on who ran them."""

    def rank(key: PromptKey) -> bytes:
        return hashlib.sha256(f"{SEED}/{key.sample_id}/{key.prompt_sha256}".encode()).digest()

    return sorted(keys, key=rank)


def _in_turns(lists: Iterable[Sequence[PromptKey]], limit: int) -> list[PromptKey]:
    """The first of every list, then the second, and so on, each once, up to a limit."""
    found: dict[PromptKey, None] = {}
    for turn in zip_longest(*lists):
        for key in turn:
            if key is not None and len(found) < limit:
                found[key] = None
    return list(found)
