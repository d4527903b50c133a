"""Commands that train a checkpoint, or predict what training one takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from gistbench.cli.app import FIELDS, app, device_of, part, quiet
from gistbench.config import Device, TrainConfig
from gistbench.config_files import load_preset, load_yaml, merge, validate
from gistbench.errors import UsageError
from gistbench.launch import launched
from gistbench.metrics import format_bytes, format_percent, format_ratio


@app.command
def train(
    *,
    overrides: Annotated[
        TrainConfig | None, Parameter(name="*", group=FIELDS, consume_multiple=True)
    ] = None,
    preset: str | None = None,
    config: Path | None = None,
    output: Path | None = None,
    device: Device = "auto",
    resume: bool = True,
) -> None:
    """Train a checkpoint: gists, or by --objective full their fair upper bound.

    Args:
        overrides: Fields of the configuration.
        preset: Name of a shipped configuration (gist-10, gist-1, full-10, gist-global-10).
        config: A YAML file with the same fields.
        output: Folder of the run (default: checkpoints/NAME). An unfinished run there goes on.
        device: Where to train.
        resume: Go on from the newest state in the folder; --no-resume refuses a used folder.
    """
    settings = train_config(preset, config, overrides)
    folder = output or Path("checkpoints") / settings.name
    if not resume and folder.exists() and any(folder.iterdir()):
        raise UsageError(
            f"{folder} is not empty; choose another --output, or drop --no-resume to go on there"
        )
    chosen = device_of(device)
    quiet()
    from gistbench.training.run import train as run_training

    done = run_training(settings, folder, device=chosen, resume=resume)
    from gistbench.models.manifest import CHECKPOINT_KINDS

    kind = CHECKPOINT_KINDS[settings.objective]
    part()
    Console(quiet=not launched().is_first).print(
        f"{kind} checkpoint: {done}", highlight=False, soft_wrap=True
    )


def train_config(
    preset: str | None, config: Path | None, overrides: TrainConfig | None
) -> TrainConfig:
    """What a preset or a file says, flags winning.

    Raises:
        UsageError: Both are named, or something in them cannot be.
    """
    if preset is not None and config is not None:
        raise UsageError("--preset and --config both name a configuration; give one of them")
    fields: dict[str, Any] = {}
    where = "command line"
    if preset is not None:
        fields, where = load_preset(preset), f"preset {preset}"
    elif config is not None:
        fields, where = load_yaml(config), str(config)
    else:
        # Each objective has a preset of its own, so that no checkpoint is named after the other.
        preset = "full-10" if overrides is not None and overrides.objective == "full" else "gist-10"
        fields, where = load_preset(preset), f"preset {preset}"
    if overrides is not None:
        fields = merge(fields, overrides.model_dump(mode="json", exclude_unset=True))
    return validate(TrainConfig, fields, where)


@app.command
def plan(
    *,
    overrides: Annotated[
        TrainConfig | None, Parameter(name="*", group=FIELDS, consume_multiple=True)
    ] = None,
    preset: str | None = None,
    config: Path | None = None,
    json: bool = False,
) -> None:
    """Count parameters and predict bytes of a training configuration; needs no weights.

    Args:
        overrides: Fields of the configuration.
        preset: Name of a shipped configuration.
        config: A YAML file with the same fields.
        json: Print JSON.
    """
    settings = train_config(preset, config, overrides)
    quiet()
    from gistbench.training.plan import plan as make_plan

    made = make_plan(settings)
    if json:
        print(made.model_dump_json(indent=2))
        return
    table = Table("quantity", "predicted", title=f"{made.name}: predictions, nothing measured")
    for name, value in made.model_dump().items():
        table.add_row(name, _shown(name, value))
    Console().print(table)


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "none: no gists are trained"
    if name.endswith(("_bytes", "_bytes_per_token")):
        return f"{format_bytes(value)} ({value:,})"
    if name.endswith("_share"):
        return format_percent(value)
    if name.endswith("_ratio"):
        return format_ratio(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
