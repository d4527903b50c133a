"""Which context length comes next: shorter ones first, each until it is mastered."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gistbench.config import TrainConfig
from gistbench.errors import UsageError

WINDOW_STEPS = 8
MIN_STEPS = 4
INDEX_BYTES = 5


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """One micro-batch, fully determined by the run's seed, its number and the stage.

    Attributes:
        micro_step: Number of the micro-batch since the start of training.
        rank: Process it is for.
        task: Whose samples.
        context_tokens: Length of every context in it.
        batch_size: Samples.
    """

    micro_step: int
    rank: int
    task: str
    context_tokens: int
    batch_size: int

    def sample_index(self, row: int, num_samples: int | None, seed: int) -> int:
        """Index of a row's sample: fresh for every row ever, or drawn from a fixed set.

        A fixed set is passed through in a new order each epoch.
        """
        if num_samples is None:
            name = f"{seed}/{self.micro_step}/{self.rank}/{row}"
            return int.from_bytes(hashlib.sha256(name.encode()).digest()[:INDEX_BYTES], "big")
        position = self.micro_step * self.batch_size + row
        epoch, place = divmod(position, num_samples)
        order = list(range(num_samples))
        random.Random(f"{seed}/{self.rank}/{epoch}").shuffle(order)
        return order[place]


@dataclass(slots=True)
class Curriculum:
    """The stage of training, as a state that a checkpoint keeps.

    Attributes:
        config: What is trained.
        stage: Index into `lengths`.
        recent: (exact, seen) of the latest steps at the stage's own length.
    """

    config: TrainConfig
    stage: int = 0
    recent: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if list(self.lengths) != sorted(set(self.lengths)):
            raise UsageError(
                "data.curriculum must rise strictly towards data.context_tokens, got "
                f"{' '.join(map(str, self.lengths))}; mend --data.curriculum"
            )

    @property
    def lengths(self) -> Sequence[int]:
        """Context lengths of all stages, in tokens."""
        return (*self.config.data.curriculum, self.config.data.context_tokens)

    @property
    def context_tokens(self) -> int:
        """Context length of the present stage."""
        return self.lengths[self.stage]

    def plan(self, micro_step: int, rank: int) -> BatchPlan:
        """The micro-batch of this number at the present stage."""
        data, training = self.config.data, self.config.training
        rng = random.Random(f"{training.seed}/{self.stage}/{micro_step}")
        length = self.context_tokens
        if self.stage and rng.random() < data.replay:
            length = self.lengths[rng.randrange(self.stage)]
        task = data.tasks[rng.randrange(len(data.tasks))]
        batch_size = training.per_device_train_batch_size
        if training.fill_batches:
            filled = batch_size * data.context_tokens // length
            batch_size = max(1, min(training.max_batch_size, filled))
        if data.length_jitter:
            length -= int(length * data.length_jitter * rng.random())
        return BatchPlan(micro_step, rank, task, length, batch_size)

    def observe(self, context_tokens: int, exact: int, seen: int) -> bool:
        """Record one step's exact answers; say whether the next stage begins.

        Steps that replayed an earlier length do not count.
        """
        shortest = self.context_tokens * (1 - self.config.data.length_jitter)
        if context_tokens < shortest - 1 or self.stage + 1 == len(self.lengths):
            return False
        self.recent = [*self.recent, (exact, seen)][-WINDOW_STEPS:]
        share = sum(part for part, _ in self.recent) / sum(part for _, part in self.recent)
        if len(self.recent) < MIN_STEPS or share < self.config.data.advance_accuracy:
            return False
        self.stage += 1
        self.recent = []
        return True

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"stage": self.stage, "recent": self.recent}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.stage = int(state["stage"])
        self.recent = [(int(exact), int(seen)) for exact, seen in state["recent"]]
