"""Commands on several runs: compare them, and follow them through time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from gistbench.cli.app import app


@app.command
def compare(
    *run_dirs: Path,
    arms: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    output: Path | None = None,
) -> None:
    """Set runs side by side: what differs, paired verdicts, flipped prompts, costs.

    Answers are paired by prompt hash. Where two runs were asked other prompts, rates stand side by
    side without a verdict.

    Args:
        run_dirs: Two to eight directories that `gistbench run` or `merge` wrote; the first is the
            reference.
        arms: Arms to compare, each with itself: gist,full. ARM:ARM sets an arm of the later runs
            against another one of the reference: gist:full. Default: all that they share.
        output: Where compare.html, compare.json and compare.md go (default: results/compare/TIME).
    """
    from gistbench.report.compare import compare as compare_runs
    from gistbench.report.compare import comparison_table, write_comparison

    chosen = [arm for word in arms for arm in word.split(",") if arm]
    found = compare_runs(run_dirs, chosen)
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    paths = write_comparison(found, output or Path("results") / "compare" / time)
    console = Console()
    console.print(comparison_table(found), highlight=False)
    console.print(f"comparison: {paths.html}", highlight=False, soft_wrap=True)


@app.command
def history(folder: Path, *, output: Path | None = None) -> None:
    """Show runs of the same thing over time: scores, accuracy, costs, and what a test can tell.

    Each run is held against the one before, prompt by prompt.

    Args:
        folder: Every run directory below it is read.
        output: Where history.html, history.json and history.md go (default: the folder).
    """
    from gistbench.report.history import history as read_history
    from gistbench.report.history import history_table, write_history

    found = read_history(folder)
    paths = write_history(found, output or folder)
    console = Console()
    console.print(history_table(found), highlight=False)
    console.print(f"history: {paths.html}", highlight=False, soft_wrap=True)
