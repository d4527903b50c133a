"""The command that runs arms side by side."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from gistbench.cli.app import FIELDS, app
from gistbench.cli.results import judge_answers, show
from gistbench.config import RunConfig
from gistbench.config_files import load_yaml, merge, validate
from gistbench.errors import GistbenchError, UsageError
from gistbench.launch import Launch, launched


@app.command
def run(
    *,
    settings: Annotated[RunConfig | None, Parameter(name="*", group=FIELDS)] = None,
    config: Path | None = None,
    output: Path | None = None,
    judge: str | None = None,
    judge_url: str | None = None,
) -> None:
    """Run arms side by side on the same samples; write records and a scorecard.

    Args:
        settings: What to run.
        config: A YAML file with the same fields.
        output: The run directory (default: results/TIME). An unfinished run there goes on.
        judge: A model that reads the answers again, as in `gistbench judge`; decides nothing.
        judge_url: Its OpenAI-compatible endpoint.
    """
    launch = launched()
    if not launch.is_first:
        return  # a run starts processes of its own, as many as were launched
    if (judge is None) != (judge_url is None):
        raise UsageError("a judge is a model and its endpoint; give both --judge and --judge-url")
    if judge_url is not None:
        from gistbench.judge.endpoint import require_endpoint

        require_endpoint(judge_url, "--judge-url")
    fields = load_yaml(config) if config is not None else {}
    if settings is not None:
        fields = merge(fields, settings.model_dump(mode="json", exclude_unset=True))
    for name in ("models", "tasks"):
        if name in fields:
            fields[name] = _split_commas(fields[name])
    fields = _with_processes(fields, launch)
    chosen = validate(RunConfig, fields, str(config) if config is not None else "command line")
    folder = output or Path("results") / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    from gistbench.bench.lengths import run_lengths
    from gistbench.bench.run import run as run_arms
    from gistbench.progress import LiveDisplay

    evaluate = run_lengths if chosen.lengths else run_arms
    with LiveDisplay() as display:
        evaluate(chosen, folder, display=display, command=_command(chosen))
    failure: GistbenchError | None = None
    if judge is not None and judge_url is not None:
        try:
            judge_answers(folder, judge, judge_url)
        except GistbenchError as error:
            failure = error  # the run itself is whole, and shown
    show(folder)
    if failure is not None:
        raise failure


def _with_processes(fields: dict[str, Any], launch: Launch) -> dict[str, Any]:
    """As many processes as a launcher has started, if one has.

    Raises:
        UsageError: It started others than the settings ask for, or some on other machines.
    """
    if launch.processes == 1:
        return fields
    if launch.local_processes != launch.processes:
        raise UsageError(
            f"{launch.local_processes} of {launch.processes} processes are on this machine, and a "
            "run keeps to one; launch it there with --nproc-per-node alone"
        )
    if fields.get("processes", launch.processes) != launch.processes:
        raise UsageError(
            f"{launch.processes} processes were launched, and --processes says "
            f"{fields['processes']}; leave one of the two out"
        )
    return {**fields, "processes": launch.processes}


def _split_commas(values: Sequence[str]) -> list[str]:
    return [part for value in values for part in str(value).split(",") if part]


def _command(config: RunConfig) -> str:
    """A command line that repeats a run."""
    words = ["gistbench run"]
    for name, value in config.model_dump(mode="json", exclude_unset=True).items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif isinstance(value, list):
            words.append(f"{flag} {shlex.quote(','.join(map(str, value)))}")
        elif value is not None and value is not False:  # 0 is a value, and equal to False
            words.append(f"{flag} {shlex.quote(str(value))}")
    return " ".join(words)
