"""A run in progress: its settings, its folder, and the orders that its workers get."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gistbench.arms.names import find_arm_name
from gistbench.bench.checkpoints import Checkpoints
from gistbench.bench.job import PROBE_FILE, Job, Mode, Probe
from gistbench.config import RunConfig
from gistbench.storage import WORK_FOLDER, read_json


class Display(Protocol):
    """What a run tells the person watching."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def arm(self, arm: str, text: str) -> None:
        """What an arm is doing, when it is not answering samples."""

    def progress(self, arm: str, task: str, done: int, total: int) -> None:
        """Samples answered."""


@dataclass(slots=True)
class Run:
    """One run in progress."""

    config: RunConfig
    folder: Path
    display: Display
    command: str
    arms: tuple[str, ...]
    excluded: dict[str, str]
    checkpoints: Checkpoints
    base: str
    samples: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def work(self) -> Path:
        """Where unfinished things lie."""
        return self.folder / WORK_FOLDER

    def job(
        self,
        mode: Mode,
        arm: str,
        *,
        tasks: tuple[str, ...] | None = None,
        round_index: int = 0,
        process: int = 0,
    ) -> Job:
        """An order for a worker."""
        answering = mode in ("evaluate", "answer")
        config, base = self.config, self.base
        environment = None if mode == "prepare" else find_arm_name(arm).environment
        if environment is not None:
            # Not by its name: packages of the catalogue are in this environment alone, and
            # transformers 5.2 makes another tokenizer of a GGUF file than 5.23.
            base = read_json(self.work / PROBE_FILE, Probe).folder
        return Job(
            mode=mode,
            arm=arm,
            folder=str(self.work.resolve()),
            base=base,
            revision=config.revision,
            checkpoint=config.checkpoint,
            tuned_checkpoint=config.tuned_checkpoint,
            tasks=tasks or config.tasks,
            context_tokens=config.context_tokens,
            haystack=config.haystack,
            data_file=config.data_file,
            samples=max(1, self.samples, config.samples or 0),
            seed=config.seed,
            split=config.split,
            device=config.device,
            dtype=config.dtype,
            quantization=config.quantization,
            batch_size=config.batch_size,
            chunk_tokens=config.chunk_tokens,
            decoding=config.decoding,
            contexts_held=config.contexts_held,
            allow_other_precision=config.allow_other_precision,
            trust_remote_code=config.trust_remote_code,
            parallel_arms=min(config.parallel_arms, len(self.arms)),
            environment=environment,
            keep_gists=answering and "swapped" in self.arms,
            round_index=round_index,
            processes=config.processes if answering else 1,
            process=process,
        )
