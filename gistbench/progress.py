"""The live display of a run: arm, task, sample, rate and time left."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from gistbench.metrics import format_seconds


class LiveDisplay:
    """A progress bar per arm on a terminal; a line per arm where output is no terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[arm]:<8}", style="bold"),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._rows: dict[tuple[str, str], TaskID] = {}
        self._started: dict[tuple[str, str], tuple[float, int]] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._progress.console.print(text, highlight=False, soft_wrap=True)

    def arm(self, arm: str, text: str) -> None:
        """What an arm is doing, when it is not answering samples."""
        row = self._rows.get((arm, ""))
        if row is None:
            self._rows[arm, ""] = self._progress.add_task(text, total=None, arm=arm, rate="")
            if not self.console.is_terminal:
                self.say(f"{arm}: {text}")
        else:
            self._progress.update(row, description=text)

    def progress(self, arm: str, task: str, done: int, total: int) -> None:
        """Samples answered."""
        key = (arm, task)
        now = time.monotonic()
        if (status := self._rows.pop((arm, ""), None)) is not None:
            self._progress.remove_task(status)
        if key not in self._rows:
            self._rows[key] = self._progress.add_task(task, total=total, arm=arm, rate="")
            self._started[key] = (now, done)
        start, first = self._started[key]
        rate = ""
        if done > first and now > start:
            seconds = (now - start) / (done - first)
            left = format_seconds(seconds * (total - done))
            rate = f"{format_seconds(seconds)}/sample"
            rate += f", {left} left" if done < total else ""
        self._progress.update(self._rows[key], completed=done, total=total, rate=rate)
        if done == total and not self.console.is_terminal:
            self.say(f"{arm}: {task}: {total} samples")
