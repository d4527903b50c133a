"""A comparison in a terminal: what differs, what the paired tests say, what it costs."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gistbench.report.compare.records import Comparison
from gistbench.report.page.visible_text import visible
from gistbench.report.shown import Figure, MetricTable

BADGE_STYLE = {
    "better": "bold green",
    "equivalent": "green",
    "worse": "bold red",
    "inconclusive": "yellow",
    "PASS": "bold green",
    "FAIL": "bold red",
    "INCONCLUSIVE": "yellow",
}
SHORT = 60


def comparison_table(found: Comparison) -> Group:
    """The comparison as it is printed; costs and prompts are on the page."""
    parts: list[RenderableType] = [Text(visible(found.title), style="bold")]
    parts += [Text(visible(f"INVALID-LEAK: {text}"), style="bold red") for text in found.invalid]
    parts += [_differing(found), *(_metrics(table) for table in found.accuracy)]
    parts.append(_metrics(found.standing, cut=True))
    parts += [Text(visible(note), style="dim") for note in found.notes]
    parts += [Text(visible(line), style="bold") for line in found.headlines]
    return Group(*parts)


def _differing(found: Comparison) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, title=Text(visible(found.alike), style="dim"), title_justify="left"
    )
    table.add_column("what differs", style="bold", overflow="fold")
    for run in found.runs:
        table.add_column(Text(visible(run.label)), overflow="fold")
    for group in found.differing:
        for row in group.rows:
            cells = (Text(_short(visible(value))) for value in row.values)
            table.add_row(Text(visible(f"{group.title}: {row.label}")), *cells)
    return table


def _short(text: str) -> str:
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"


def _metrics(found: MetricTable, *, cut: bool = False) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        title=Text(visible(found.caption), style="dim"),
        title_justify="left",
    )
    table.add_column("", style="bold")
    for column in found.columns:
        table.add_column(Text(visible(column)), overflow="fold")
    for group in found.groups:
        table.add_row(Text(visible(group.title), style="dim"))
        for row in group.rows:
            table.add_row(
                Text(visible(f"  {row.label}")), *(_cell(cell, cut=cut) for cell in row.cells)
            )
    if found.footnotes:
        notes = "\n".join(f"({n}) {note}" for n, note in enumerate(found.footnotes, start=1))
        table.caption = Text("\n".join(map(visible, notes.split("\n"))), style="dim")
        table.caption_justify = "left"
    return table


def _cell(figure: Figure, *, cut: bool) -> Text:
    if figure.not_measured is not None:
        word = "N/A" if figure.not_applicable else "not measured"
        return Text(f"{word} ({figure.footnote})" if figure.footnote else word, style="dim")
    text = Text(visible(figure.text), style=BADGE_STYLE.get(figure.badge, ""))
    if figure.detail:
        detail = visible(figure.detail)
        text.append(f"\n{_short(detail) if cut else detail}", style="dim")
    return text
