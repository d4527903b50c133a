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
from gistbench.core.layout import GistLayout, pad_left
from gistbench.errors import UsageError
from gistbench.models.loading import load_tokenizer
from gistbench.models.prompts import answer_ids, split_prompt
from gistbench.training.curriculum import BatchPlan, Curriculum

IGNORED = -100
TOKENS_PER_TASK = 10_000
BATCHES_AHEAD = 6


@dataclass(frozen=True, slots=True)
class Example:
    """One training sample as token ids."""

    context: list[int]
    question: list[int]
    answer: list[int]

    @property
    def num_tokens(self) -> int:
        """Tokens without gists."""
        return len(self.context) + len(self.question) + len(self.answer)


def build_example(
    tokenizer: Any, *, task: str, context_tokens: int, index: int, seed: int
) -> Example:
    """One sample of a task's training split.

    Raises:
        UsageError: No sample of this length can be made.
    """
    try:
        sample = generators.generator(task).build_sample(
            tokenizer,
            task=task,
            split="train",
            context_tokens=context_tokens,
            index=index,
            seed=seed,
        )
    except ValueError as error:
        raise UsageError(f"data.context_tokens or data.curriculum: {error}") from error
    prompt = split_prompt(tokenizer, sample.context, sample.question)
    # An answer is tokenised with its question: its tokens need no context.
    answer = answer_ids(tokenizer, sample.question, sample.answer)
    return Example(prompt.context, prompt.question, answer)


def collate(examples: Sequence[Example], gist_ids: Sequence[int]) -> dict[str, torch.Tensor]:
    """Lay a batch out as ``| context gists | question answer |``, each part padded on its left.

    Args:
        examples: One per row.
        gist_ids: Ids of the gist tokens; empty where the whole context stays visible.

    Returns:
        Tensors alone, so that any launcher can move them: ``input_ids`` ``(batch, P + S)``,
        ``labels`` ``(batch, A)`` for the last A slots, ``prefix_padding`` and ``suffix_padding``
        ``(batch,)``, ``prefix_length`` ``(1,)``.
    """
    prefix, prefix_padding = pad_left([[*item.context, *gist_ids] for item in examples], 0)
    suffix, suffix_padding = pad_left([[*item.question, *item.answer] for item in examples], 0)
    longest = max(len(item.answer) for item in examples)
    labels = [[IGNORED] * (longest - len(item.answer)) + item.answer for item in examples]
    return {
        "input_ids": torch.cat([prefix, suffix], dim=1),
        "labels": torch.tensor(labels),
        "prefix_padding": torch.tensor(prefix_padding),
        "suffix_padding": torch.tensor(suffix_padding),
        "prefix_length": torch.tensor([prefix.shape[1]]),
    }


def layout_of(
    batch: dict[str, torch.Tensor], num_visible: int | None, *, segmented: bool = False
) -> GistLayout:
    """The layout of a collated batch.

    Args:
        batch: As `collate` makes it.
        num_visible: Slots at the prefix's end that question and answer see: the gists. None: the
            whole prefix, which without gist ids is the context.
        segmented: Each gist reads its own part of the context.
    """
    prefix_length = int(batch["prefix_length"][0])
    return GistLayout(
        prefix_length=prefix_length,
        num_visible=prefix_length if num_visible is None else num_visible,
        prefix_padding=tuple(batch["prefix_padding"].tolist()),
        suffix_padding=tuple(batch["suffix_padding"].tolist()),
        stage="joint",
        segmented=segmented,
    )


class SampleBatches(IterableDataset[dict[str, torch.Tensor]]):
    """Every micro-batch of a run, in order, prepared ahead by worker processes.

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
        rank: int = 0,
    ) -> None:
        self.config = config
        self.curriculum = curriculum
        self.gist_ids = tuple(gist_ids)
        self.rank = rank
        self.start = 0
        self._tokenizer = tokenizer
        self._folder = folder
        self._pool: ProcessPoolExecutor | None = None

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Batches from number `start` on, without end."""
        ahead: dict[BatchPlan, list[Future[list[Example]]]] = {}
        micro_step = self.start
        while True:
            plan = self.curriculum.plan(micro_step, self.rank)
            wanted = [plan]
            if self.config.data.num_workers:
                wanted += [
                    self.curriculum.plan(micro_step + later, self.rank)
                    for later in range(1, BATCHES_AHEAD)
                ]
                for stale in ahead.keys() - set(wanted):
                    for future in ahead.pop(stale):
                        future.cancel()
                for item in wanted:
                    if item not in ahead:
                        ahead[item] = self._submit(item)
                parts = [future.result() for future in ahead.pop(plan)]
            else:
                parts = [_build_rows(self._tokenizer, self.config, plan, range(plan.batch_size))]
            yield collate([item for part in parts for item in part], self.gist_ids)
            micro_step += 1

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
        rows = max(1, TOKENS_PER_TASK // plan.context_tokens)
        return [
            self._pool.submit(_build_in_worker, plan, range(first, first + rows))
            for first in range(0, plan.batch_size, rows)
        ]


_worker: dict[str, Any] = {}


def _start_worker(folder: Path, config: TrainConfig) -> None:
    torch.set_num_threads(1)
    _worker["tokenizer"] = load_tokenizer(folder)
    _worker["config"] = config


def _build_in_worker(plan: BatchPlan, rows: range) -> list[Example]:
    return _build_rows(_worker["tokenizer"], _worker["config"], plan, rows)


def _build_rows(tokenizer: Any, config: TrainConfig, plan: BatchPlan, rows: range) -> list[Example]:
    seed = config.training.seed
    return [
        build_example(
            tokenizer,
            task=plan.task,
            context_tokens=plan.context_tokens,
            index=plan.sample_index(row, config.data.num_samples, seed),
            seed=seed,
        )
        for row in rows
        if row < plan.batch_size
    ]
