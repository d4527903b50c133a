"""Batches for training: samples of the tasks' training split, tokenised and laid out."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset

from gistbench.config import TrainConfig
from gistbench.errors import DoesNotFitError
from gistbench.models.loading import load_tokenizer
from gistbench.training.curriculum import NUM_FRESH, BatchPlan, Curriculum
from gistbench.training.examples import Example, build_example, collate, random_example
from gistbench.training.share import Share

BATCHES_AHEAD = 6
DRAWS = 32
"""Of a fresh sample, until one fits into a short context."""


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
        rows = self.share.rows(plan.batch_size)
        # Among all workers: when rows are divided anew, the next batch is waited for.
        at_once = max(1, -(-len(rows) // self.config.data.num_workers))
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
    return [_build_row(tokenizer, config, plan, row) for row in rows]


def _build_row(tokenizer: Any, config: TrainConfig, plan: BatchPlan, row: int) -> Example:
    """A row's sample; where it is fresh and too long for a short context, another one."""
    seed = config.training.seed
    index = plan.sample_index(row, config.data.num_samples, seed)
    draws = DRAWS if config.data.num_samples is None else 1
    for draw in range(draws):
        try:
            return build_example(
                tokenizer,
                task=plan.tasks[plan.task_of(row)],
                context_tokens=plan.context_tokens,
                index=index + draw * NUM_FRESH,
                seed=seed,
                num_questions=config.data.questions_per_context,
                task_index=plan.task_of(row),
                locate=config.training.pointer_weight > 0,
                position_span=plan.position_span,
            )
        except DoesNotFitError:
            if draw == draws - 1:
                raise
    raise AssertionError("the last draw returns or raises")
