"""Which tasks get more rows: those whose answers are wrong more often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SLOTS = 64
"""Rows after which the order of tasks begins again."""

WINDOW_STEPS = 16
"""Steps whose answers count, and steps between two divisions of the rows."""


@dataclass(slots=True)
class Focus:
    """How the rows of batches are divided among tasks, as a state that a checkpoint keeps.

    A part of all rows goes to all tasks alike, so that none is forgotten; the rest in proportion to
    the answers that are wrong. Graves et al., 2017, "Automated Curriculum Learning for Neural
    Networks" (arXiv 1704.03003) choose by progress instead; by error, a task that cannot be learned
    gets the most, which ``share`` bounds.

    Attributes:
        share: Of all rows, divided by errors.
        num_tasks: To divide among.
        recent: (exact, seen) of each task, of the latest steps.
        known: Share of exact answers of each task when it was last seen; 0 before.
        slots: Rows of each task in `SLOTS`; empty: all alike.
        steps: Observed since the last division.
        met: Whether each task was seen since the stage began.
    """

    share: float
    num_tasks: int
    recent: list[list[tuple[int, int]]] = field(default_factory=list)
    known: list[float] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    steps: int = 0
    met: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.known = [0.0] * self.num_tasks
        self.met = [False] * self.num_tasks

    @property
    def turns(self) -> tuple[int, ...]:
        """Indices of tasks in the order in which rows take them, each spread evenly over it."""
        if not self.slots:
            return tuple(range(self.num_tasks))
        places = [
            ((turn + 0.5) / count, task)
            for task, count in enumerate(self.slots)
            for turn in range(count)
        ]
        return tuple(task for _, task in sorted(places))

    def observe(self, by_task: Sequence[tuple[int, int]]) -> None:
        """Record one step's (exact, seen) of each task, and divide anew when it is time."""
        self.recent = [*self.recent, list(by_task)][-WINDOW_STEPS:]
        self.met = [met or seen > 0 for met, (_, seen) in zip(self.met, by_task, strict=True)]
        self.steps += 1
        if self.steps < WINDOW_STEPS:
            return
        self.known, self.steps = self.rates(), 0
        if self.share:
            self.slots = divide(self.share, self.known)

    def rates(self, steps: int = WINDOW_STEPS) -> list[float]:
        """Share of exact answers of each task in the latest steps it was seen in, or as known."""
        found = list(self.known)
        for latest in (self.recent, self.recent[-steps:]):
            for task in range(self.num_tasks):
                exact, seen = (sum(step[task][what] for step in latest) for what in (0, 1))
                if seen:
                    found[task] = exact / seen
        return found

    def new_stage(self) -> None:
        """Longer contexts begin: rows stay divided as they are until a window of these is full."""
        self.known, self.recent, self.steps = self.rates(), [], 0
        self.met = [False] * self.num_tasks

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "recent": self.recent,
            "known": self.known,
            "slots": self.slots,
            "steps": self.steps,
            "met": self.met,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.recent = [[(int(a), int(b)) for a, b in step] for step in state["recent"]]
        self.known = [float(rate) for rate in state.get("known", self.known)]
        self.slots = [int(count) for count in state["slots"]]
        self.steps = int(state["steps"])
        self.met = [bool(met) for met in state.get("met", [True] * self.num_tasks)]


def divide(share: float, rates: Sequence[float]) -> list[int]:
    """Rows of each task in `SLOTS`, at least one each, by largest remainders.

    Args:
        share: Of the rows, divided by errors.
        rates: Share of exact answers of each task.
    """
    wrong = [1 - rate for rate in rates]
    total = sum(wrong)
    free = SLOTS - len(rates)
    wanted = [
        free * ((1 - share) / len(rates) + (share * part / total if total else share / len(rates)))
        for part in wrong
    ]
    counts = [int(part) for part in wanted]
    by_remainder = sorted(range(len(rates)), key=lambda task: counts[task] - wanted[task])
    for task in by_remainder[: free - sum(counts)]:
        counts[task] += 1
    return [1 + count for count in counts]
