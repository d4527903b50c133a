"""Training samples as token ids, and batches of them as tensors."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gistbench import generators
from gistbench.core.layout import pad_left
from gistbench.errors import DoesNotFitError, UsageError
from gistbench.models.prompts import answer_ids, split_prompts, token_span
from gistbench.models.random_weights import random_ids

IGNORED = -100

GAP_SHARE = 0.5
"""Of the contexts that are spread over more positions than they have tokens."""

SENTENCE_END = re.compile(r"[.!?]\s")


@dataclass(frozen=True, slots=True)
class Gap:
    """Positions that a context leaves out.

    Attributes:
        token: Of the context, the first one behind them.
        positions: How many.
    """

    token: int
    positions: int


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer as token ids.

    Attributes:
        question: Ids.
        answer: Ids, its end included.
        needle: Tokens of the context that state the answer: the first, and the one after the last.
            None where no one place does, or nobody wants to know.
    """

    question: list[int]
    answer: list[int]
    needle: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One training sample as token ids.

    Attributes:
        context: What the gists read.
        turns: A question and its answer, or several of the same context.
        task: Index of its task in the configuration.
        gap: Positions that the context leaves out; None: none.
    """

    context: list[int]
    turns: tuple[Turn, ...]
    task: int = 0
    gap: Gap | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens without gists, of the longest turn."""
        return len(self.context) + max(len(t.question) + len(t.answer) for t in self.turns)

    @property
    def num_answer_tokens(self) -> int:
        """Supervised tokens of the longest turn."""
        return max(len(turn.answer) for turn in self.turns)


def build_example(
    tokenizer: Any,
    *,
    task: str,
    context_tokens: int,
    index: int,
    seed: int,
    num_questions: int = 1,
    task_index: int = 0,
    locate: bool = False,
    position_span: int | None = None,
    split: str = "train",
) -> Example:
    """One sample of a task's training split, or of another.

    Args:
        tokenizer: Of the base model.
        task: Its name.
        context_tokens: Exact length of the context.
        index: Number of the sample.
        seed: Seed of the series.
        num_questions: Asked of its context at most.
        task_index: Kept with the example.
        locate: Find the needle of each turn.
        position_span: Positions that its context is spread over at most; None: as many as tokens.
        split: Training uses train alone.

    Raises:
        DoesNotFitError: This one is too long for such a context, which another one may not be.
        UsageError: No sample can be made.
    """
    generator = generators.generator(task)
    try:
        context, asked = generator.build_turns(
            tokenizer,
            task=task,
            split=split,
            context_tokens=context_tokens,
            index=index,
            seed=seed,
        )
    except getattr(generator, "DoesNotFitError", ()) as error:
        raise DoesNotFitError(str(error)) from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    asked = asked[:num_questions]
    prompts = split_prompts(tokenizer, [(context, turn.question) for turn in asked])

    def needle(text: str) -> tuple[int, int] | None:
        if not locate or not text:
            return None
        start = context.index(text)
        return token_span(tokenizer, context, start, start + len(text))

    # An answer is tokenised with its question: its tokens need no context.
    turns = tuple(
        Turn(
            prompt.question,
            answer_ids(tokenizer, turn.question, turn.answer),
            needle(turn.needle),
        )
        for prompt, turn in zip(prompts, asked, strict=True)
    )
    ids = prompts[0].context
    room = 0 if position_span is None else position_span - len(ids)
    gap = _gap(tokenizer, context, room, random.Random(f"gap/{task}/{seed}/{index}"))
    return Example(ids, turns, task_index, gap)


def _gap(tokenizer: Any, context: str, room: int, rng: random.Random) -> Gap | None:
    """At most ``room`` positions behind a sentence, or behind the whole context; often none."""
    if room < 1 or rng.random() >= GAP_SHARE:
        return None
    ends = [match.start() + 1 for match in SENTENCE_END.finditer(context)]
    end = rng.choice([*ends, len(context)])
    _, token = token_span(tokenizer, context, end - 1, end)
    return Gap(token, rng.randint(1, room))


RANDOM_QUESTION_TOKENS, RANDOM_ANSWER_TOKENS = 15, 7
"""As long as a passkey's question and answer are in most tokenizers."""


def random_example(
    num_rows: int, *, context_tokens: int, index: int, seed: int, num_questions: int = 1
) -> Example:
    """A sample of drawn token ids, for weights that were drawn too; its lengths are fixed."""
    turn = RANDOM_QUESTION_TOKENS + RANDOM_ANSWER_TOKENS
    count = context_tokens + num_questions * turn
    ids = random_ids(count, num_rows, seed * 1_000_003 + index)
    turns = [ids[start : start + turn] for start in range(context_tokens, count, turn)]
    return Example(
        ids[:context_tokens],
        tuple(Turn(ids[:RANDOM_QUESTION_TOKENS], ids[RANDOM_QUESTION_TOKENS:]) for ids in turns),
    )


def collate(examples: Sequence[Example], gist_ids: Sequence[int]) -> dict[str, torch.Tensor]:
    """Lay a batch out as ``| context gists |`` and ``| question answer |``, padded on the left.

    Args:
        examples: One per row of the prefix.
        gist_ids: Ids of the gist tokens; empty where the whole context stays visible.

    Returns:
        Tensors alone, so that any launcher can move them: ``prefix_ids`` ``(batch, P)``,
        ``prefix_padding`` ``(batch,)``; for all turns, row after row, ``suffix_ids``
        ``(turns, S)``, ``suffix_padding`` and ``owners`` (rows of the prefix) ``(turns,)``,
        ``labels`` ``(turns, A)`` for the last A slots, ``tasks`` ``(turns,)``, ``holders``
        ``(turns, gists)``: whose part of the context holds some of the needle, and ``gaps``
        ``(batch, 2)``: the first slot of the prefix behind a gap, and its positions, 0 for none.
    """
    prefix, prefix_padding = pad_left([[*item.context, *gist_ids] for item in examples], 0)
    turns = [(row, turn) for row, item in enumerate(examples) for turn in item.turns]
    suffix, suffix_padding = pad_left([[*turn.question, *turn.answer] for _, turn in turns], 0)
    longest = max(len(turn.answer) for _, turn in turns)
    labels = [[IGNORED] * (longest - len(turn.answer)) + turn.answer for _, turn in turns]
    num_gists = len(gist_ids)
    holders = [holding(len(examples[row].context), num_gists, turn.needle) for row, turn in turns]
    gaps = [item.gap or Gap(0, 0) for item in examples]
    return {
        "prefix_ids": prefix,
        "prefix_padding": torch.tensor(prefix_padding),
        "suffix_ids": suffix,
        "suffix_padding": torch.tensor(suffix_padding),
        "owners": torch.tensor([row for row, _ in turns]),
        "labels": torch.tensor(labels),
        "tasks": torch.tensor([examples[row].task for row, _ in turns]),
        "holders": torch.tensor(holders),
        "gaps": torch.tensor(
            [
                (padding + gap.token, gap.positions)
                for padding, gap in zip(prefix_padding, gaps, strict=True)
            ]
        ),
    }


def holding(num_context: int, num_parts: int, needle: tuple[int, int] | None) -> list[bool]:
    """Which of equal parts of a context hold some of a needle; see `GistLayout.segment_bounds`."""
    if needle is None:
        return [False] * num_parts
    bounds = [num_context * part // num_parts for part in range(num_parts + 1)]
    first, end = needle
    return [first < bounds[part + 1] and end > bounds[part] for part in range(num_parts)]
