"""Commands on run directories: show them, merge them, look into them, have them judged."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from rich.console import Console

from gistbench.cli.app import app, quiet
from gistbench.errors import UsageError
from gistbench.records import SampleRecord


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
    judge_answers(run_dir, model, url, limit)
    show(run_dir)


def judge_answers(run_dir: Path, model: str, url: str, limit: int | None = None) -> None:
    from rich.progress import Progress

    from gistbench.judge.endpoint import Endpoint
    from gistbench.judge.judging import judge_run

    asked = Endpoint(model, url)

    @cache
    def maker() -> Callable[[SampleRecord], str]:
        # Needs the tokenizer, and only runs older than the field `question` need it.
        from gistbench.bench.samples import question_maker

        quiet()
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
    show(run_dir)


@app.command(name="merge")
def merge_runs(*run_dirs: Path, output: Path, packed: bool = False) -> None:
    """Make one run out of several on the same samples: other arms, tasks or lengths.

    Args:
        run_dirs: Directories that `gistbench run` wrote; the first decides the length judged.
        output: The merged run directory.
        packed: Compress samples and memory ticks (xz).
    """
    from gistbench.bench.merge import merge as make_one

    show(make_one(run_dirs, output, packed=packed))


@app.command
def sample(run_dir: Path, sample_id: str) -> None:
    """Print a sample's whole prompt, regenerated from its seed and held against its hash.

    Args:
        run_dir: A directory that `gistbench run` wrote.
        sample_id: As the scorecard names it, for instance niah_passkey/test/4925/seed0/17.
    """
    from gistbench.bench.samples import regenerate

    quiet()
    print(regenerate(run_dir, sample_id))


def show(folder: Path) -> None:
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
