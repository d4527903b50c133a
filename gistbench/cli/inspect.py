"""Commands that look into a checkpoint: what its questions read, and what it forgot."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from gistbench.cli.app import app, device_of, quiet
from gistbench.config import Device
from gistbench.errors import UsageError
from gistbench.metrics import format_percent
from gistbench.records import Stated

STATED: dict[Stated, str] = {
    "right": "the value asked for",
    "another": "another value of the document, whole",
    "mixed": "characters of several values, each at its place",
    "neither": "none of these",
}


@app.command
def inspect(
    checkpoint: str,
    *,
    task: str = "niah_labelled_4",
    context_tokens: int = 1024,
    samples: int = 40,
    device: Device = "auto",
    json: bool = False,
) -> None:
    """Watch a checkpoint answer validation samples: whose value it states, where questions look.

    A diagnosis while training, never a result; that is what `gistbench run` gives.

    Args:
        checkpoint: Shipped name or folder.
        task: One that can be trained on.
        context_tokens: Exact length of every context.
        samples: How many.
        device: Where to run.
        json: Print JSON.
    """
    if samples < 1:
        raise UsageError(f"--samples {samples} shows nothing; pass 1 or more")
    quiet()
    from gistbench.models.manifest import find_checkpoint
    from gistbench.training.inspection import inspect as look

    seen = look(
        find_checkpoint(checkpoint),
        task=task,
        context_tokens=context_tokens,
        samples=samples,
        device=device_of(device),
    )
    if json:
        print(seen.model_dump_json(indent=2))
        return
    title = (
        f"{seen.checkpoint}: {seen.samples} validation samples of {task}, {context_tokens:,} tokens"
    )
    table = Table("answers state", "of", title=title, title_justify="left")
    for name, meaning in STATED.items():
        table.add_row(meaning, f"{seen.stated.get(name, 0)}")
    Console().print(table)
    Console().print(
        f"A document holds {seen.num_values:.1f} values: picking one blindly is right in "
        f"{format_percent(1 / seen.num_values)} of the answers that state one whole."
    )
    if seen.pointed_by_layer is None or seen.pointed_blindly is None:
        Console().print(
            "Each gist reads the whole context: which one holds a needle is not known, so where "
            "questions look is not measured."
        )
        return
    layers = Table(
        "layer", "share", title="Attention on gists: share on those that read the needle"
    )
    best = max(seen.pointed_by_layer)
    for layer, share in enumerate(seen.pointed_by_layer):
        style = "bold" if share == best else ""
        layers.add_row(str(layer), format_percent(share), style=style)
    layers.add_row("spread evenly", format_percent(seen.pointed_blindly), style="dim")
    Console().print(layers)


@app.command
def forgetting(
    checkpoint: str,
    *,
    text: Path | None = None,
    windows: int = 64,
    window_tokens: int = 1024,
    device: Device = "auto",
    json: bool = False,
) -> None:
    """Compare a checkpoint's perplexity on held-out prose with its base model's, without gists.

    Args:
        checkpoint: Shipped name or folder, of either objective.
        text: A text file or a folder of them (default: the test split of the prose that ships).
        windows: Parts of the text that are read by both.
        window_tokens: Of each.
        device: Where to run.
        json: Print JSON.
    """
    quiet()
    from gistbench.models.manifest import find_checkpoint
    from gistbench.training.forgetting import forgetting as compare

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("reading", total=None)
        found = compare(
            find_checkpoint(checkpoint),
            device=device_of(device),
            text=text,
            windows=windows,
            window_tokens=window_tokens,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if json:
        print(found.model_dump_json(indent=2))
        return
    table = Table(
        "perplexity",
        "of",
        title=f"{found.windows} windows of {found.window_tokens:,} tokens: {found.text}",
        title_justify="left",
    )
    table.add_row(f"{found.base_perplexity:.3f}", f"{found.base}, {found.dtype}")
    table.add_row(f"{found.perplexity:.3f}", f"{found.checkpoint}, no gists")
    Console().print(table)
    change = 100 * (found.ratio - 1)
    low, high = 100 * (found.low - 1), 100 * (found.high - 1)
    Console().print(f"{change:+.2f} % (95 % interval {low:+.2f} to {high:+.2f} %)")
