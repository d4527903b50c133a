"""Commands of the regression gate: judge a run, accept one as what later runs are held to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from gistbench.cli.app import app
from gistbench.errors import GistbenchError
from gistbench.storage import RUN_FILE

baselines = App(name="baseline", help="Accept runs as what later ones are compared with.")
app.command(baselines)

Repeats = Annotated[tuple[Path, ...], Parameter(consume_multiple=True)]


@app.command
def gate(
    run_dir: Path,
    *,
    baseline: Path | None = None,
    policy: Path | None = None,
    repeats: Repeats = (),
    output: Path | None = None,
    verbose: bool = False,
) -> None:
    """Compare a run with an accepted baseline and decide.

    Writes gate.json, gate.xml (JUnit) and gate.md. Exit codes: 0 pass, 1 regression, 2 refused,
    3 inconclusive.

    Args:
        run_dir: A directory that `gistbench run` wrote.
        baseline: A file that `gistbench baseline accept` wrote.
        policy: YAML or JSON with what differs from the default policy.
        repeats: Further runs of the same, by turns with those of the baseline, for their times.
        output: Where the reports are written (default: the run directory).
        verbose: Print what passed too.
    """
    from gistbench.gate.gating import gate as judge_run
    from gistbench.gate.gating import refusal
    from gistbench.gate.github import tell_github
    from gistbench.gate.reports import write_reports
    from gistbench.gate.shown import table

    failure: GistbenchError | None = None
    try:
        report = judge_run(run_dir, baseline, policy, repeats)
    except GistbenchError as error:
        failure, report = error, refusal(run_dir, baseline, policy, str(error))
    if output is not None or (run_dir / RUN_FILE).is_file():
        write_reports(report, output or run_dir)
    for line in tell_github(report):
        print(line)
    if failure is not None:
        raise failure
    Console().print(table(report, everything=verbose), highlight=False)
    sys.exit(report.exit_code)


@baselines.command
def accept(
    run_dir: Path,
    *,
    name: str,
    reason: str,
    repeats: Repeats = (),
    folder: Path | None = None,
) -> None:
    """Write a run down as a baseline: outcomes by prompt hash, bytes, memory, times, provenance.

    Args:
        run_dir: A directory that `gistbench run` wrote.
        name: Of the baseline's file.
        reason: Why later runs are to be held to this one; it is kept in the file.
        repeats: Further runs of the same, for their times.
        folder: Where baselines lie (default: baselines).
    """
    from gistbench.gate.accepting import accept as accept_run

    path = accept_run(run_dir, name=name, reason=reason, repeats=repeats, folder=folder)
    Console().print(f"baseline: {path}", highlight=False, soft_wrap=True)
