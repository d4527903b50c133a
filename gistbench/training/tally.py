"""What a training counts: tokens, exact answers of each task, and losses beside the answers'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from gistbench.training.examples import IGNORED
from gistbench.training.objective import Batch
from gistbench.training.share import Share

OTHER_LOSSES = ("pointer_loss", "keep_loss")

Observed = list[tuple[int, list[tuple[int, int]]]]
"""Of each micro-batch of a step: context tokens, and (exact answers, answers) of each task."""


@dataclass(slots=True)
class Tally:
    """Counts over all processes, the same in each, as a state that a checkpoint keeps.

    Attributes:
        tasks: Names, as rows take turns; one may stand there more than once.
        supervised_tokens: Of all answers so far.
        context_tokens_seen: Of all contexts so far.
        longest_context_tokens: Of any context so far.
        answers: So far, of each task.
    """

    tasks: Sequence[str]
    supervised_tokens: int = 0
    context_tokens_seen: int = 0
    longest_context_tokens: int = 0
    answers: list[int] = field(default_factory=list)
    # Since the last log: exact answers and answers, ``(2, tasks)``, and each step's other losses,
    # None where one did not count in it.
    _rates: torch.Tensor = field(init=False)
    _others: dict[str, list[float | None]] = field(init=False)

    def __post_init__(self) -> None:
        self.answers = self.answers or [0] * len(self.tasks)
        self._start_window()

    def _start_window(self) -> None:
        self._rates = torch.zeros(2, len(self.tasks))
        self._others = {name: [] for name in OTHER_LOSSES}

    @property
    def tasks_trained(self) -> tuple[str, ...]:
        """Names of the tasks of which any answer was trained on, each once."""
        pairs = zip(self.tasks, self.answers, strict=True)
        return tuple(dict.fromkeys(name for name, answers in pairs if answers))

    def of_micro_batch(
        self, logits: torch.Tensor, batch: Batch, context_tokens: int, others: torch.Tensor
    ) -> torch.Tensor:
        """A micro-batch, or a process's part of one, as numbers ``(5 + 2 * tasks,)`` to gather.

        Args:
            logits: ``(turns, answer tokens, vocabulary)``.
            batch: As `gistbench.training.examples.collate` makes it.
            context_tokens: Of its contexts.
            others: `OTHER_LOSSES` ``(2,)``.
        """
        labels, tasks = batch["labels"], batch["tasks"]
        supervised = labels != IGNORED
        exact = ((logits.argmax(-1) == labels) | ~supervised).all(dim=1)
        lengths = torch.tensor([context_tokens, len(batch["prefix_ids"])], device=logits.device)
        num_tasks = len(self.tasks)
        return torch.cat(
            [
                lengths.double(),
                supervised.sum().double()[None],
                others.double(),
                torch.bincount(tasks, weights=exact.double(), minlength=num_tasks),
                torch.bincount(tasks, minlength=num_tasks).double(),
            ]
        )

    def observe(self, counted: torch.Tensor, share: Share, counting: Sequence[bool]) -> Observed:
        """Add a step.

        Args:
            counted: What all processes counted, one after the other: ``(processes * turns, 5 + 2 *
                tasks)``, on the CPU.
            share: Of any process.
            counting: Which of `OTHER_LOSSES` were in this step's loss.
        """
        lengths = [0] * share.accumulation
        rates = torch.zeros(share.accumulation, 2, len(self.tasks))
        for rank, turns in enumerate(counted.view(share.processes, share.own_accumulation, -1)):
            for turn, counts in enumerate(turns):
                context_tokens, contexts, supervised = counts[:3].long().tolist()
                self.supervised_tokens += supervised
                self.context_tokens_seen += context_tokens * contexts
                self.longest_context_tokens = max(self.longest_context_tokens, context_tokens)
                place = share.place(rank, turn)
                lengths[place] = max(lengths[place], context_tokens)
                rates[place] += counts[5:].view(2, -1)
        for name, loss, counts_now in zip(
            OTHER_LOSSES, counted[:, 3:5].sum(dim=0).tolist(), counting, strict=True
        ):
            self._others[name].append(loss if counts_now else None)
        of_step = rates.sum(dim=0)
        self._rates += of_step
        self.answers = [a + int(b) for a, b in zip(self.answers, of_step[1].tolist(), strict=True)]
        by_task = [[(int(a), int(b)) for a, b in part.T.tolist()] for part in rates]
        return list(zip(lengths, by_task, strict=True))

    def newest(self, name: str) -> float | None:
        """One of `OTHER_LOSSES` of the step that was observed last; None where it did not count."""
        return self._others[name][-1]

    def window(self) -> dict[str, float]:
        """What a log says of the steps since the last one; the next window begins.

        Other losses are means over all of these steps, as the loss that they are part of is.
        """
        exact, seen = self._rates.tolist()
        if not sum(seen):
            return {}
        logs = {"train_exact_match": sum(exact) / sum(seen)}
        if len(set(self.tasks)) > 1:
            for name in dict.fromkeys(self.tasks):
                own = [place for place, task in enumerate(self.tasks) if task == name]
                if answers := sum(seen[place] for place in own):
                    rate = sum(exact[place] for place in own) / answers
                    logs[f"train_exact_match/{name}"] = rate
        for name, found in self._others.items():
            if any(loss is not None for loss in found):
                logs[name] = sum(loss or 0.0 for loss in found) / len(found)
        logs["supervised_tokens"] = float(self.supervised_tokens)
        logs["context_tokens_seen"] = float(self.context_tokens_seen)
        self._start_window()
        return logs

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "supervised_tokens": self.supervised_tokens,
            "context_tokens_seen": self.context_tokens_seen,
            "longest_context_tokens": self.longest_context_tokens,
            "answers": self.answers,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's state; older ones trained all tasks from the first step on."""
        self.supervised_tokens = int(state["supervised_tokens"])
        self.context_tokens_seen = int(state["context_tokens_seen"])
        self.longest_context_tokens = int(state["longest_context_tokens"])
        self.answers = [int(count) for count in state.get("answers", [1] * len(self.tasks))]
