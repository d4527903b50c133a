"""What comes next: some tasks, then all; shorter contexts, then longer: each until mastered."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from gistbench.config import TrainConfig
from gistbench.errors import UsageError
from gistbench.training.focus import Focus

WINDOW_STEPS = 8
MIN_STEPS = 4
INDEX_BYTES = 5
NUM_FRESH = 256**INDEX_BYTES
"""Indices that fresh samples are drawn from."""

SERIES = 0
"""Part of every sample's name, so that a recipe draws the samples that it always drew."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """One micro-batch, fully determined by the run's seed, its number and the stage.

    Processes that train together share it (`gistbench.training.share`): it does not know them.

    Attributes:
        micro_step: Number of the micro-batch since the start of training.
        tasks: Whose samples; rows take turns.
        first_task: The turn of the first row.
        context_tokens: Length of every context in it.
        batch_size: Samples.
        turns: Indices of tasks in the order in which rows take them; empty: one after the other.
        position_span: Positions that contexts are spread over; None: as many as tokens.
    """

    micro_step: int
    tasks: tuple[str, ...]
    first_task: int
    context_tokens: int
    batch_size: int
    turns: tuple[int, ...] = ()
    position_span: int | None = None

    def task_of(self, row: int) -> int:
        """Index of a row's task."""
        turns = self.turns or range(len(self.tasks))
        return turns[(self.first_task + row) % len(turns)]

    def sample_index(self, row: int, num_samples: int | None, seed: int) -> int:
        """Index of a row's sample: fresh for every row ever, or drawn from a fixed set.

        A fixed set is passed through in a new order each epoch.
        """
        if num_samples is None:
            name = f"{seed}/{self.micro_step}/{SERIES}/{row}"
            return int.from_bytes(hashlib.sha256(name.encode()).digest()[:INDEX_BYTES], "big")
        position = self.micro_step * self.batch_size + row
        epoch, place = divmod(position, num_samples)
        order = list(range(num_samples))
        random.Random(f"{seed}/{SERIES}/{epoch}").shuffle(order)
        return order[place]


@dataclass(slots=True)
class Curriculum:
    """The stage of training, as a state that a checkpoint keeps.

    Attributes:
        config: What is trained.
        stage: Of `num_stages`: the first tasks alone if there are any, then all at each length.
        recent: (exact, seen) of the latest steps, as far as of the stage's own length.
        steps: Taken in this stage, replayed lengths included.
        focus: Divides the rows among tasks.
        kept: Steps so far in which ordinary text counted.
    """

    config: TrainConfig
    stage: int = 0
    recent: list[tuple[int, int]] = field(default_factory=list)
    steps: int = 0
    kept: int = 0
    focus: Focus = field(init=False)

    def __post_init__(self) -> None:
        self.focus = Focus(self.config.data.focus, len(self.config.data.tasks))
        if list(self.lengths) != sorted(set(self.lengths)):
            raise UsageError(
                "data.curriculum must rise strictly towards data.context_tokens, got "
                f"{' '.join(map(str, self.lengths))}; mend --data.curriculum"
            )
        if self.config.data.least_accuracy and not self.config.data.max_stage_steps:
            raise UsageError(
                "data.least_accuracy keeps a stage from ending by its bound, and there is none; "
                "add --data.max-stage-steps, or leave it out"
            )
        for name in self.config.data.first_tasks:
            if name not in self.config.data.tasks:
                raise UsageError(
                    f"data.first_tasks {name} is not among data.tasks "
                    f"{' '.join(self.config.data.tasks)}; add it there, or leave it out"
                )
        if set(self.config.data.tasks) == set(self.config.data.first_tasks):
            raise UsageError(
                "data.first_tasks names all of data.tasks, so that none joins them later; leave it "
                "out, or add the later ones to data.tasks"
            )

    @property
    def lengths(self) -> Sequence[int]:
        """Context lengths of all stages, in tokens; random weights, which master none, have one."""
        if self.config.weights == "random":
            return (self.config.data.context_tokens,)
        return (*self.config.data.curriculum, self.config.data.context_tokens)

    @property
    def num_stages(self) -> int:
        """Stages in all; random weights, which master none, have one."""
        return len(self.lengths) + self._stages_before_all

    @property
    def context_tokens(self) -> int:
        """Context length of the present stage."""
        return self.lengths[self._place]

    @property
    def trains_all_tasks(self) -> bool:
        """Whether the first tasks are not alone any more, or never were."""
        return self.stage >= self._stages_before_all

    @property
    def keep_weight(self) -> float:
        """Of ordinary text in the loss of the present step; 0 where it does not count."""
        training = self.config.training
        if not self.trains_all_tasks or self.context_tokens < training.keep_from_tokens:
            return 0.0
        return training.keep_weight * min(1.0, (self.kept + 1) / max(1, training.keep_rise_steps))

    @property
    def title(self) -> str:
        """The present stage in words."""
        names = "all tasks" if self.trains_all_tasks else ", ".join(self.config.data.first_tasks)
        alone = "" if self.trains_all_tasks else " alone"
        return (
            f"stage {self.stage + 1} of {self.num_stages}: {names}{alone}, contexts of "
            f"{self.context_tokens:,} tokens"
        )

    @property
    def _stages_before_all(self) -> int:
        return int(bool(self.config.data.first_tasks) and self.config.weights == "real")

    @property
    def _place(self) -> int:
        """Of the present stage among `lengths`."""
        return max(0, self.stage - self._stages_before_all)

    @property
    def _trained(self) -> Sequence[int]:
        """Indices of the tasks that are trained in the present stage."""
        tasks, first = self.config.data.tasks, self.config.data.first_tasks
        every = self.trains_all_tasks
        return [place for place, name in enumerate(tasks) if every or name in first]

    def plan(self, micro_step: int) -> BatchPlan:
        """The micro-batch of this number at the present stage."""
        data, training = self.config.data, self.config.training
        rng = random.Random(f"{training.seed}/{self.stage}/{micro_step}")
        length = self.context_tokens
        if self._place and rng.random() < data.replay:
            length = self.lengths[rng.randrange(self._place)]
        trained = self._trained
        turns = tuple(task for task in self.focus.turns if task in trained)
        first_task = rng.randrange(len(turns))
        batch_size = training.per_device_train_batch_size
        if training.fill_batches:
            filled = batch_size * data.context_tokens // length
            batch_size = max(1, min(training.max_batch_size, filled))
        if data.length_jitter and self.config.weights == "real":
            length -= int(length * data.length_jitter * rng.random())
        span = data.position_span if self.trains_all_tasks else None
        return BatchPlan(micro_step, data.tasks, first_task, length, batch_size, turns, span)

    def observe(self, step: Sequence[tuple[int, Sequence[tuple[int, int]]]]) -> bool:
        """Record one step's exact answers; say whether the next stage begins.

        Args:
            step: Context tokens of each micro-batch, and (exact answers, answers) of each task in
                it. Earlier lengths that were replayed say nothing of this stage's.
        """
        data = self.config.data
        shortest = self.context_tokens * (1 - data.length_jitter)
        own = [by_task for tokens, by_task in step if tokens >= shortest - 1]
        if own:
            self.focus.observe([_summed(parts) for parts in zip(*own, strict=True)])
        self.kept += self.keep_weight > 0
        if self.stage + 1 == self.num_stages:
            return False
        self.steps += 1
        if own:
            of_step = _summed(map(_summed, own))
            self.recent = [*self.recent, of_step][-WINDOW_STEPS:]
        if not (own and self._mastered) and not self._late:
            return False
        self.stage, self.recent, self.steps = self.stage + 1, [], 0
        self.focus.new_stage()
        return True

    @property
    def _late(self) -> bool:
        bounds = self.config.data.max_stage_steps
        if not bounds or self.steps < bounds[min(self.stage, len(bounds) - 1)]:
            return False
        least = self.config.data.least_accuracy
        # What answers nothing at this length learns nothing at the next.
        return not least or (len(self.recent) >= MIN_STEPS and self._share >= least)

    @property
    def _mastered(self) -> bool:
        return len(self.recent) >= MIN_STEPS and self._share >= self.config.data.advance_accuracy

    @property
    def _share(self) -> float:
        """Of exact answers in the latest steps of this stage's length."""
        exact, seen = _summed(self.recent)
        # Rows that go where answers are wrong say less of how many are right. What a task answered
        # in shorter contexts says nothing here.
        rates = self.focus.rates(WINDOW_STEPS)
        of_tasks = fmean(rates[task] * self.focus.met[task] for task in self._trained)
        return of_tasks if self.focus.share else exact / seen

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "stage": self.stage,
            "recent": self.recent,
            "steps": self.steps,
            "focus": self.focus.state(),
            "kept": self.kept,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.stage = int(state["stage"])
        self.recent = [(int(exact), int(seen)) for exact, seen in state["recent"]]
        self.steps = int(state.get("steps", 0))
        self.kept = int(state.get("kept", 0))
        if "focus" in state:
            self.focus.restore(state["focus"])


def _summed(parts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    exact, seen = zip(*parts, strict=True)
    return sum(exact), sum(seen)
