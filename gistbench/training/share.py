"""Which part of every step one of several processes takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gistbench.config import TrainConfig
from gistbench.errors import UsageError
from gistbench.launch import Launch


@dataclass(frozen=True, slots=True)
class Share:
    """A step is what the configuration says, however many processes share its work.

    Its micro-batches are dealt out whole as far as their number allows; beyond that the rows of
    each are cut into parts. Six micro-batches of eight rows among four processes::

        micro-batch    0        1        2        3        4        5
        rows 0 to 3    rank 0   rank 2   rank 0   rank 2   rank 0   rank 2
        rows 4 to 7    rank 1   rank 3   rank 1   rank 3   rank 1   rank 3

    Attributes:
        accumulation: Micro-batches of a step, over all processes.
        rank: Of this process.
        processes: All of them.
    """

    accumulation: int = 1
    rank: int = 0
    processes: int = 1

    @property
    def groups(self) -> int:
        """Micro-batches that are at work at the same time."""
        return math.gcd(self.accumulation, self.processes)

    @property
    def parts(self) -> int:
        """Parts that the rows of one micro-batch are cut into."""
        return self.processes // self.groups

    @property
    def own_accumulation(self) -> int:
        """Micro-batches, or parts of them, that each process takes in a step."""
        return self.accumulation // self.groups

    def place(self, rank: int, turn: int) -> int:
        """Number within the step of the micro-batch that a process takes as its ``turn``-th."""
        return turn * self.groups + rank // self.parts

    def micro_step(self, number: int) -> int:
        """Number since the start of training of this process's ``number``-th micro-batch."""
        step, turn = divmod(number, self.own_accumulation)
        return step * self.accumulation + self.place(self.rank, turn)

    def rows(self, batch_size: int) -> range:
        """Rows of a micro-batch that are this process's; parts differ by one row at most."""
        part = self.rank % self.parts
        return range(batch_size * part // self.parts, batch_size * (part + 1) // self.parts)


def share_of(config: TrainConfig, launch: Launch) -> Share:
    """The share of one process.

    Raises:
        UsageError: The step cannot be shared out evenly.
    """
    training = config.training
    share = Share(training.gradient_accumulation_steps, launch.rank, launch.processes)
    rows = training.per_device_train_batch_size
    if training.fill_batches:
        rows = min(rows, training.max_batch_size)
    if rows % share.parts:
        together = rows * training.gradient_accumulation_steps
        raise UsageError(
            f"a step of {together} samples ({rows} rows, accumulated "
            f"{training.gradient_accumulation_steps} times) cannot be shared evenly by "
            f"{launch.processes} processes; start a number of processes that divides it, or pass "
            f"--training.per-device-train-batch-size {_next_multiple(rows, share.parts)}"
        )
    return share


def _next_multiple(number: int, of: int) -> int:
    return -(-number // of) * of
