"""Batches for training: samples of the tasks' training split, tokenised and laid out."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset

from gistbench import generators
from gistbench.config import TrainConfig
from gistbench.core.layout import pad_left
from gistbench.errors import UsageError
from gistbench.models.loading import load_tokenizer
from gistbench.models.prompts import answer_ids, split_prompts, token_span
from gistbench.models.random_weights import random_ids
from gistbench.training.curriculum import BatchPlan, Curriculum
from gistbench.training.share import Share

IGNORED = -100
TOKENS_PER_TASK = 10_000
BATCHES_AHEAD = 6


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
    """

    context: list[int]
    turns: tuple[Turn, ...]
    task: int = 0

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
        split: Training uses train alone.

    Raises:
        UsageError: No sample of this length can be made.
    """
    try:
        context, asked = generators.generator(task).build_turns(
            tokenizer,
            task=task,
            split=split,
            context_tokens=context_tokens,
            index=index,
            seed=seed,
        )
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
    return Example(prompts[0].context, turns, task_index)


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
        ``labels`` ``(turns, A)`` for the last A slots, ``tasks`` ``(turns,)``, and ``holders``
        ``(turns, gists)``: whose part of the context holds some of the needle.
    """
    prefix, prefix_padding = pad_left([[*item.context, *gist_ids] for item in examples], 0)
    turns = [(row, turn) for row, item in enumerate(examples) for turn in item.turns]
    suffix, suffix_padding = pad_left([[*turn.question, *turn.answer] for _, turn in turns], 0)
    longest = max(len(turn.answer) for _, turn in turns)
    labels = [[IGNORED] * (longest - len(turn.answer)) + turn.answer for _, turn in turns]
    num_gists = len(gist_ids)
    holders = [holding(len(examples[row].context), num_gists, turn.needle) for row, turn in turns]
    return {
        "prefix_ids": prefix,
        "prefix_padding": torch.tensor(prefix_padding),
        "suffix_ids": suffix,
        "suffix_padding": torch.tensor(suffix_padding),
        "owners": torch.tensor([row for row, _ in turns]),
        "labels": torch.tensor(labels),
        "tasks": torch.tensor([examples[row].task for row, _ in turns]),
        "holders": torch.tensor(holders),
    }


def holding(num_context: int, num_parts: int, needle: tuple[int, int] | None) -> list[bool]:
    """Which of equal parts of a context hold some of a needle; see `GistLayout.segment_bounds`."""
    if needle is None:
        return [False] * num_parts
    bounds = [num_context * part // num_parts for part in range(num_parts + 1)]
    first, end = needle
    return [first < bounds[part + 1] and end > bounds[part] for part in range(num_parts)]


class SampleBatches(IterableDataset[dict[str, torch.Tensor]]):
    """A process's share of every micro-batch of a run, in order, prepared ahead by workers.

    What a batch holds depends on its number, the seed and the stage alone, never on the workers:
    when the curriculum advances, batches prepared for the stage before are dropped.
    """

    def __init__(
        self,
        config: TrainConfig,
        curriculum: Curriculum,
        folder: Path,
        tokenizer: Any,
        gist_ids: Sequence[int],
        *,
        share: Share | None = None,
        num_random_rows: int | None = None,
    ) -> None:
        """Prepare; nothing is built yet.

        Args:
            config: Of the run.
            curriculum: Says what comes next.
            folder: With the tokenizer, for the workers.
            tokenizer: The same, for this process.
            gist_ids: Appended to every context.
            share: Of this process; None: all of it.
            num_random_rows: Vocabulary rows to draw token ids from, where there is no tokenizer.
        """
        self._num_random_rows = num_random_rows
        self.config = config
        self.curriculum = curriculum
        self.gist_ids = tuple(gist_ids)
        self.share = share or Share(config.training.gradient_accumulation_steps)
        self.start = 0
        self._tokenizer = tokenizer
        self._folder = folder
        self._pool: ProcessPoolExecutor | None = None

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Batches from number `start` of this process on, without end."""
        ahead: dict[BatchPlan, list[Future[list[Example]]]] = {}
        number = self.start
        while True:
            plan = self._plan(number)
            rows = self.share.rows(plan.batch_size)
            if self._num_random_rows is not None:
                parts = [_draw_rows(self._num_random_rows, self.config, plan, rows)]
            elif self.config.data.num_workers:
                wanted = [plan, *(self._plan(number + later) for later in range(1, BATCHES_AHEAD))]
                for stale in ahead.keys() - set(wanted):
                    for future in ahead.pop(stale):
                        future.cancel()
                for item in wanted:
                    if item not in ahead:
                        ahead[item] = self._submit(item)
                parts = [future.result() for future in ahead.pop(plan)]
            else:
                parts = [_build_rows(self._tokenizer, self.config, plan, rows)]
            yield collate([item for part in parts for item in part], self.gist_ids)
            number += 1

    def _plan(self, number: int) -> BatchPlan:
        return self.curriculum.plan(self.share.micro_step(number))

    def close(self) -> None:
        """Stop the worker processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _submit(self, plan: BatchPlan) -> list[Future[list[Example]]]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.config.data.num_workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(self._folder, self.config),
            )
        at_once = max(1, TOKENS_PER_TASK // plan.context_tokens)
        rows = self.share.rows(plan.batch_size)
        return [
            self._pool.submit(_build_in_worker, plan, rows[first : first + at_once])
            for first in range(0, len(rows), at_once)
        ]


_worker: dict[str, Any] = {}


def _start_worker(folder: Path, config: TrainConfig) -> None:
    torch.set_num_threads(1)
    _worker["tokenizer"] = load_tokenizer(folder)
    _worker["config"] = config


def _build_in_worker(plan: BatchPlan, rows: range) -> list[Example]:
    return _build_rows(_worker["tokenizer"], _worker["config"], plan, rows)


def _draw_rows(
    num_random_rows: int, config: TrainConfig, plan: BatchPlan, rows: range
) -> list[Example]:
    seed = config.training.seed
    return [
        random_example(
            num_random_rows,
            context_tokens=plan.context_tokens,
            index=plan.sample_index(row, config.data.num_samples, seed),
            seed=seed,
            num_questions=config.data.questions_per_context,
        )
        for row in rows
    ]


def _build_rows(tokenizer: Any, config: TrainConfig, plan: BatchPlan, rows: range) -> list[Example]:
    seed = config.training.seed
    return [
        build_example(
            tokenizer,
            task=plan.tasks[plan.task_of(row)],
            context_tokens=plan.context_tokens,
            index=plan.sample_index(row, config.data.num_samples, seed),
            seed=seed,
            num_questions=config.data.questions_per_context,
            task_index=plan.task_of(row),
            locate=config.training.pointer_weight > 0,
        )
        for row in rows
    ]
