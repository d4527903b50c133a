"""Commands that measure speed: training steps and decoding, beside what the device allows."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console

from gistbench.cli.app import FIELDS, app, device_of, part, quiet
from gistbench.cli.train import train_config
from gistbench.config import Device, TrainConfig
from gistbench.config_files import ConfigT, load_yaml, merge, validate
from gistbench.errors import UsageError
from gistbench.launch import launched
from gistbench.speed.savings_settings import LengthsConfig, SavingsConfig
from gistbench.speed.settings import DecodeSpeedConfig

if TYPE_CHECKING:
    from gistbench.speed.records import SpeedRecord

speed = App(name="speed", help="Measure training and decoding speed beside the device's own.")
app.command(speed)


@speed.command(name="train")
def train_speed(
    *,
    overrides: Annotated[
        TrainConfig | None, Parameter(name="*", group=FIELDS, consume_multiple=True)
    ] = None,
    preset: str | None = None,
    config: Path | None = None,
    steps: int = 10,
    warm_up_steps: int = 3,
    profile: bool = False,
    output: Path | None = None,
    device: Device = "auto",
) -> None:
    """Time the steps of a training at its full length; nothing is kept of what it learns.

    Args:
        overrides: Fields of the configuration, as for `gistbench train`.
        preset: Name of a shipped configuration.
        config: A YAML file with the same fields.
        steps: Timed optimiser steps.
        warm_up_steps: Steps before them.
        profile: Trace further steps afterwards: which kernels they spend their time in.
        output: JSON file of the record (default: results/speed/TIME-train.json).
        device: Where to train.
    """
    settings = train_config(preset, config, overrides)
    for name, value, least in (("--steps", steps, 1), ("--warm-up-steps", warm_up_steps, 0)):
        if value < least:
            raise UsageError(f"{name} {value} is too few; pass {least} or more")
    chosen = device_of(device)
    quiet()
    from gistbench.speed.run import speed_of_training

    file = output or _default("train")
    record = speed_of_training(
        settings,
        file,
        device=chosen,
        steps=steps,
        warm_up_steps=warm_up_steps,
        command=_command(),
        profiled=profile,
    )
    part()
    if record is not None:
        _show(record, file)


@speed.command(name="decode")
def decode_speed(
    *,
    settings: Annotated[DecodeSpeedConfig | None, Parameter(name="*", group=FIELDS)] = None,
    config: Path | None = None,
    profile: bool = False,
    output: Path | None = None,
    device: Device = "auto",
) -> None:
    """Time decoding from full and gist caches, by each loop and precision, all taking turns.

    Args:
        settings: What to measure.
        config: A YAML file with the same fields.
        profile: Trace each side after its rounds: which kernels a step spends its time in.
        output: JSON file of the record, written after every round (default:
            results/speed/TIME-decode.json).
        device: Where to decode.
    """
    wanted = _wanted(DecodeSpeedConfig, settings, config)
    chosen = device_of(device)
    quiet()
    from gistbench.speed.run import speed_of_decoding

    file = output or _default("decode")
    try:
        record = speed_of_decoding(
            wanted, file, device=chosen, command=_command(), profiled=profile, say=_say()
        )
    except KeyboardInterrupt:
        if not file.exists():
            raise
        show = f"gistbench speed show {shlex.quote(str(file))}"
        _say()(f"\ngistbench: stopped; `{show}` shows the rounds so far")
        sys.exit(130)
    _show(record, file)


@speed.command(name="show")
def show_speed(record: Path) -> None:
    """Show a record of `speed train` or `speed decode`, also one that was stopped half way.

    Args:
        record: JSON file that one of them wrote.
    """
    from gistbench.speed.output import read_speed

    _show(read_speed(record), record)


@speed.command(name="savings")
def savings(
    *,
    output: Path,
    settings: Annotated[SavingsConfig | None, Parameter(name="*", group=FIELDS)] = None,
    config: Path | None = None,
    device: Device = "auto",
) -> None:
    """Measure what gists buy: time, memory, contexts and tokens a second within a budget.

    The same command goes on where it was stopped; other parts or precisions join what is there.

    Args:
        output: Folder of savings.json, savings.html and savings.md.
        settings: What to measure.
        config: A YAML file with the same fields.
        device: Where to measure.
    """
    wanted = _wanted(SavingsConfig, settings, config)
    chosen = device_of(device)
    quiet()
    from gistbench.speed.savings import measure_savings

    measure_savings(wanted, output, device=chosen, command=_command(), say=_say())
    from gistbench.report.savings.render import render_savings, savings_tables

    card, page = render_savings(output)
    console = Console()
    for table in savings_tables(card):
        console.print(table)
    console.print(f"page: {page}", highlight=False, soft_wrap=True)


@speed.command(name="lengths")
def lengths(
    *,
    output: Path,
    settings: Annotated[LengthsConfig | None, Parameter(name="*", group=FIELDS)] = None,
    config: Path | None = None,
    device: Device = "auto",
) -> None:
    """Measure what long contexts cost to read: at once, in chunks, in segments.

    Args:
        output: Folder of lengths.json, lengths.html and lengths.md.
        settings: What to measure.
        config: A YAML file with the same fields.
        device: Where to measure.
    """
    wanted = _wanted(LengthsConfig, settings, config)
    chosen = device_of(device)
    quiet()
    from gistbench.speed.lengths import measure_lengths

    measure_lengths(wanted, output, device=chosen, command=_command(), say=_say())
    from gistbench.report.savings.render import lengths_tables, render_lengths

    card, page = render_lengths(output)
    console = Console()
    for table in lengths_tables(card):
        console.print(table)
    console.print(f"page: {page}", highlight=False, soft_wrap=True)


def _wanted(kind: type[ConfigT], settings: ConfigT | None, config: Path | None) -> ConfigT:
    """The fields of a file, then those of the command line."""
    fields = load_yaml(config) if config is not None else {}
    if settings is not None:
        fields = merge(fields, settings.model_dump(mode="json", exclude_unset=True))
    return validate(kind, fields, str(config) if config is not None else "command line")


def _say() -> Callable[[str], None]:
    errors = Console(stderr=True)
    return lambda text: errors.print(text, highlight=False, soft_wrap=True)


def _default(kind: str) -> Path:
    return Path("results/speed") / f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{kind}.json"


def _command() -> str:
    launch = launched()
    start = [] if launch.processes == 1 else ["torchrun", "--nproc-per-node"]
    start += [] if launch.processes == 1 else [str(launch.processes), "-m"]
    return shlex.join([*start, "gistbench", *sys.argv[1:]])


def _show(record: SpeedRecord, file: Path) -> None:
    from gistbench.speed.table import tables

    console = Console()
    for table in tables(record):
        console.print(table)
    console.print(f"record: {file}", highlight=False, soft_wrap=True)
