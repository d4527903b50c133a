"""Between steps: the curriculum advances, and checkpoints are completed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gistbench.storage import write_atomically
from gistbench.training.states import CURRICULUM_FILE, progress_of
from gistbench.training.trainer import GistTrainer


class StepCallback(TrainerCallback):
    """Advances the curriculum after each step, and completes each checkpoint.

    The curriculum's state is written last: a checkpoint without it was cut short.
    """

    def __init__(
        self, on_checkpoint: Callable[[Path], None], on_stage: Callable[[TrainerState, str], None]
    ) -> None:
        self.trainer: GistTrainer | None = None
        self.on_checkpoint = on_checkpoint
        self.on_stage = on_stage

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Observe the step."""
        assert self.trainer is not None
        if self.trainer.end_of_step():
            self.on_stage(state, self.trainer.batches.curriculum.title)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Complete the checkpoint that Trainer has just written, every process its part of it."""
        assert self.trainer is not None
        self.trainer.accelerator.wait_for_everyone()
        if not state.is_world_process_zero:
            return
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        self.on_checkpoint(folder)
        progress = {
            "curriculum": self.trainer.batches.curriculum.state(),
            **self.trainer.tally.state(),
            "processes": args.world_size,
        }
        write_atomically(folder / CURRICULUM_FILE, json.dumps(progress) + "\n")


def restore_progress(trainer: GistTrainer, checkpoint: Path) -> None:
    """Go on with the curriculum and the counts of a checkpoint."""
    progress = progress_of(checkpoint)
    trainer.batches.curriculum.restore(progress["curriculum"])
    trainer.tally.restore(progress)
