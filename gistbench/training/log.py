"""The training log: Markdown for people, JSONL for machines, both growing as training goes."""

from __future__ import annotations

import json
import time
from collections import deque
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gistbench.config import TrainConfig
from gistbench.metrics import format_seconds
from gistbench.models.random_weights import MEANINGLESS

LOG_FILE, METRICS_FILE = "training.md", "metrics.jsonl"
RATE_WINDOW_STEPS = 50

_LEARNED = ("loss", "keep_loss", "train_exact_match")
"""How the names begin of what says how well a model does, and of random weights says nothing."""

_OF_TASK = "train_exact_match/"
"""How the names begin of exact answers of one task."""

_COLUMNS = ("step", "done", "context tokens", "loss", "exact", "s/step", "time left", "note")


class TrainingLog(TrainerCallback):
    """Writes ``training.md`` and ``metrics.jsonl``, and one console line per logging step.

    Time left comes from the rate of the latest steps, never from a guess made before; where a
    curriculum is not over yet, later steps may take longer, and the log says so.
    """

    def __init__(self, folder: Path, config: TrainConfig, facts: dict[str, str]) -> None:
        self.folder = folder
        self.config = config
        self.facts = facts
        self.console = Console(stderr=True)
        self._times: deque[tuple[int, float]] = deque(maxlen=RATE_WINDOW_STEPS)
        self._tasks = ""
        self.seconds_before = 0.0
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Training time of this and earlier parts of the run."""
        return self.seconds_before + time.perf_counter() - self._started

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write the head, or say where training goes on."""
        self._started = time.perf_counter()
        self._times.append((state.global_step, self._started))
        if not state.is_world_process_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if state.global_step and (self.folder / LOG_FILE).is_file():
            kept, last_seconds = self._metrics_until(state.global_step)
            self.seconds_before = last_seconds
            (self.folder / METRICS_FILE).write_text(kept, encoding="utf-8")
            self._append(f"\nResumed at step {state.global_step:,}.\n\n{self._header()}")
            return
        fields = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
        facts = "\n".join(f"- {name}: {value}" for name, value in self.facts.items())
        head = (
            f"# Training log: {self.config.name}\n\n{self.config.description}\n\n"
            f"## Model and data\n\n{facts}\n\n"
            f"## Configuration\n\n```yaml\n{fields}```\n\n## Steps\n\n{self._header()}"
        )
        (self.folder / LOG_FILE).write_text(head, encoding="utf-8")
        (self.folder / METRICS_FILE).write_text("", encoding="utf-8")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Keep the time of the step."""
        self._times.append((state.global_step, time.perf_counter()))

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Name the checkpoint in the log, and what each task had right in the latest steps."""
        if state.is_world_process_zero:
            self._row(state, {}, f"saved checkpoint-{state.global_step}{self._tasks}")

    def stage(self, state: TrainerState, title: str) -> None:
        """Say that a stage begins, in the first process's log."""
        if state.is_world_process_zero:
            self._row(state, {}, title)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """One row of the table, one line of JSON."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        entry: dict[str, Any] = {
            "step": state.global_step,
            "seconds": round(self.seconds, 3),
            "seconds_per_step": self._rate(),
            # Trainer's epoch means nothing for data without an end.
            **{name: value for name, value in logs.items() if name != "epoch"},
        }
        if self.config.weights == "random":
            learned = [name for name in entry if name.startswith(_LEARNED)]
            entry |= dict.fromkeys(learned, MEANINGLESS.model_dump())
        with (self.folder / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        rates = {
            name.removeprefix(_OF_TASK): rate
            for name, rate in logs.items()
            if name.startswith(_OF_TASK)
        }
        if rates and self.config.weights == "real":
            self._tasks = ": " + ", ".join(
                f"{task} {100 * rate:.0f} %" for task, rate in rates.items()
            )
        self._row(state, logs, "")

    def _rate(self) -> float | None:
        first, last = self._times[0], self._times[-1]
        steps = last[0] - first[0]
        return (last[1] - first[1]) / steps if steps else None

    def _row(self, state: TrainerState, logs: dict[str, float], note: str) -> None:
        rate = self._rate()
        if self.config.weights == "random":
            logs = {name: value for name, value in logs.items() if not name.startswith(_LEARNED)}
        left = rate * (state.max_steps - state.global_step) if rate is not None else None
        cells = (
            f"{state.global_step:,}",
            f"{100 * state.global_step / state.max_steps:.0f} %",
            f"{logs['context_tokens']:,.0f}" if "context_tokens" in logs else "",
            f"{logs['loss']:.4f}" if "loss" in logs else "",
            f"{100 * logs['train_exact_match']:.1f} %" if "train_exact_match" in logs else "",
            f"{rate:.3g}" if rate is not None else "",
            format_seconds(left) if left else "",
            note,
        )
        self._append("| " + " | ".join(cells) + " |\n")
        self.console.print(
            "  ".join(f"{name} {cell}" for name, cell in zip(_COLUMNS, cells, strict=True) if cell),
            highlight=False,
            soft_wrap=True,
        )

    def finish(self, text: str) -> None:
        """Close the log with a paragraph."""
        self._append(f"\n{text}\n")

    def _header(self) -> str:
        return f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}\n"

    def _append(self, text: str) -> None:
        with (self.folder / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(text)

    def _metrics_until(self, step: int) -> tuple[str, float]:
        """Earlier metrics up to the step that is resumed, and the seconds they took."""
        path = self.folder / METRICS_FILE
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        entries = []
        for line in lines:
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:  # the kill fell into this line
                break
        kept = [entry for entry in entries if entry["step"] <= step]
        seconds = float(kept[-1]["seconds"]) if kept else 0.0
        return "".join(json.dumps(entry) + "\n" for entry in kept), seconds
