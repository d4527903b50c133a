"""Records in, pages out: HTML, JSON and Markdown beside them, and tables for a terminal."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup
from rich.table import Table

from gistbench.metrics import format_bytes
from gistbench.records import NotMeasured, Provenance
from gistbench.report.page.curves import curve_chart
from gistbench.report.page.pages import fill_html, fill_markdown
from gistbench.report.savings.budget_sections import budget
from gistbench.report.savings.card import SpeedCard
from gistbench.report.savings.long_reads import reads
from gistbench.report.savings.naming import names_of, precision_name
from gistbench.report.savings.phase_sections import key_values, phases, questions
from gistbench.report.savings.ratio_sections import attribution, broken_figures, headline
from gistbench.report.shown import Figure, Line
from gistbench.speed.records import Rates, SpeedBase
from gistbench.speed.savings_records import LengthsRecord, SavingsRecord
from gistbench.storage import read_json, write_atomically


def render_savings(folder: Path) -> tuple[SpeedCard, Path]:
    """Write `savings.html` and `savings.md` beside `savings.json`.

    Returns:
        What they show, and the page.

    Raises:
        UsageError: The record is missing or broken, or the folder cannot be written.
    """
    record = read_json(folder / "savings.json", SavingsRecord)
    return _written(savings_card(record), folder, "savings")


def render_lengths(folder: Path) -> tuple[SpeedCard, Path]:
    """Write `lengths.html` and `lengths.md` beside `lengths.json`.

    Returns:
        What they show, and the page.

    Raises:
        UsageError: The record is missing or broken, or the folder cannot be written.
    """
    record = read_json(folder / "lengths.json", LengthsRecord)
    return _written(lengths_card(record), folder, "lengths")


def savings_card(record: SavingsRecord) -> SpeedCard:
    """Every figure of the page on what gists buy."""
    found = (
        headline(record),
        budget(record),
        questions(record),
        attribution(record),
        phases(record),
        key_values(record),
    )
    settings = record.settings
    asked = {"none", "nf4"} - {p.quantization for p in record.precisions}
    notes = [f"Accuracy: NOT MEASURED. {record.accuracy.not_measured.capitalize()}."]
    weights = [
        f"{format_bytes(p.weights_bytes)} ({names_of(record)[p.quantization]})"
        for p in record.precisions
        if not isinstance(p.weights_bytes, NotMeasured)
    ]
    if weights:
        notes.append(f"Allocated before any context was read: {' and '.join(weights)}.")
    adapter = [
        f"{format_bytes(p.adapter_bytes)} ({names_of(record)[p.quantization]})"
        for p in record.precisions
    ]
    notes.append(
        "One copy of the weights serves both arms, the adapter switched off for full context. "
        f"What only gists need of them, {' and '.join(adapter)}, counts in both arms."
    )
    if asked:
        names = " and ".join(precision_name(q, record.base.dtype) for q in sorted(asked))
        notes.append(f"Not in this record: {names}; gists and NF4 cannot be told apart.")
    return SpeedCard(
        kind="What gists buy",
        title=f"{record.base.name}, {settings['context_tokens']:,} tokens",
        created=record.created,
        broken=broken_figures(record),
        notes=tuple(notes),
        sections=tuple(section for section in found if section is not None),
        environment=_environment(record.provenance, record.base, record.rates),
        command=record.command,
    )


def lengths_card(record: LengthsRecord) -> SpeedCard:
    """Every figure of the page on long contexts."""
    return SpeedCard(
        kind="What long contexts cost",
        title=f"{record.base.name}, up to {max(record.settings['lengths']):,} tokens",
        created=record.created,
        broken=(),
        notes=(f"Accuracy: NOT MEASURED. {record.accuracy.not_measured.capitalize()}.",),
        sections=(reads(record),),
        environment=_environment(record.provenance, record.base, None),
        command=record.command,
    )


def _environment(where: Provenance, base: SpeedBase, rates: Rates | None) -> tuple[Line, ...]:
    commit = where.git_commit or "not run from a git checkout"
    rows = [
        ("gistbench", where.gistbench_version),
        ("Commit", f"{commit}, with uncommitted changes" if where.git_dirty else commit),
        ("Device", f"{where.device_name} ({where.device}), {where.num_cpu_cores} CPU cores"),
        ("Platform", f"{where.platform}, Python {where.python}"),
        ("Base model", f"{base.name} ({base.model_type}), {base.num_parameters:,} parameters"),
        ("Weights", base.fingerprint),
        ("Precision of the computation", base.dtype),
        ("Packages", ", ".join(f"{k} {v}" for k, v in sorted(where.packages.items()))),
    ]
    if where.driver_version:
        total = where.device_total_bytes
        size = f", {format_bytes(total)}" if total else ""
        versions = f"driver {where.driver_version}, CUDA {where.cuda_version or 'unknown'}{size}"
        rows.insert(3, ("GPU", versions))
    if rates is not None:
        product = f"{rates.matrix_operations_per_second / 1e12:,.3g} TFLOP/s"
        copy = f"{rates.copy_bytes_per_second / 1e9:,.4g} GB/s"
        rows.insert(
            3,
            (
                "Rates of the floors",
                f"{product} ({rates.matrix_dtype}, {rates.matrix_size} square), copy {copy}, "
                "measured beside what they are held to",
            ),
        )
    return tuple(Line(label=label, text=text) for label, text in rows)


def _written(card: SpeedCard, folder: Path, name: str) -> tuple[SpeedCard, Path]:
    page = folder / f"{name}.html"
    write_atomically(page, html_page(card))
    write_atomically(folder / f"{name}.md", markdown_page(card))
    return card, page


def html_page(card: SpeedCard) -> str:
    """One self-contained file: no script, no network, charts inline."""
    charts = {
        f"{section.id}-{number}": Markup(curve_chart(chart, f"{section.id}-{number}"))
        for section in card.sections
        for number, chart in enumerate(section.charts)
    }
    return fill_html("savings.html.j2", card=card, charts=charts)


def markdown_page(card: SpeedCard) -> str:
    """The same figures for a pull request."""
    return fill_markdown("savings.md.j2", card=card)


def savings_tables(card: SpeedCard) -> list[Table]:
    """The main tables for a terminal."""
    return _terminal(card, ("ratios", "budget", "questions", "apart"))


def lengths_tables(card: SpeedCard) -> list[Table]:
    """The same of long contexts."""
    return _terminal(card, ("reads",))


def _terminal(card: SpeedCard, wanted: tuple[str, ...]) -> list[Table]:
    made = []
    for section in card.sections:
        for found in section.tables if section.id in wanted else ():
            table = Table("", *found.columns, title=found.caption, title_justify="left")
            for group in found.groups:
                if len(found.groups) > 1:
                    table.add_row(f"[bold]{group.title}[/bold]")
                for row in group.rows:
                    table.add_row(row.label, *(_cell(cell) for cell in row.cells))
            table.caption = "; ".join(found.footnotes) or None
            made.append(table)
    return made


def _cell(figure: Figure) -> str:
    if figure.not_measured is not None:
        return "N/A" if figure.not_applicable else "not measured"
    mark = " BROKEN" if figure.badge == "INVALID" else ""
    return figure.text + mark
