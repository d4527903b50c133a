"""The scorecard as a table in a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gistbench.report.card import Outcome, Scorecard
from gistbench.report.page.visible_text import visible
from gistbench.report.sections.columns import FEW_TASKS
from gistbench.report.shown import Figure

OUTCOME_STYLE: dict[Outcome, str] = {
    "PASS": "bold green",
    "FAIL": "bold red",
    "INCONCLUSIVE": "yellow",
    "NOT_MEASURED": "dim",
}


def summary_table(card: Scorecard) -> Table:
    """Arms with accuracy and cost, and a line per criterion."""
    outer = Table.grid(padding=(0, 0))
    outer.add_column()
    for text in card.invalid:
        outer.add_row(Text(visible(f"INVALID-LEAK: {text}"), style="bold red"))
    if len(card.tasks) > FEW_TASKS:
        outer.add_row(_tasks(card))
    outer.add_row(_arms(card))
    outer.add_row(_criteria(card))
    score = Text(f"Score {card.score.text} ({card.score.arithmetic}); {card.score.measurable}")
    outer.add_row(Group(score, *_published(card)))
    return outer


def _arms(card: Scorecard) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=Text(visible(card.title)), title_justify="left")
    table.add_column("arm", style="bold")
    tasks = card.tasks if len(card.tasks) <= FEW_TASKS else ()
    for task in tasks:
        table.add_column(Text(visible(f"exact match, {task.label}")))
    names = ("cache", "compress", "first token", "decode", "memory")
    for name in names:
        table.add_column(name, justify="right")
    for arm in card.arms:
        accuracy = [_with_detail(arm.accuracy[task.label]["exact_match"]) for task in tasks]
        memory = next(
            (f for name in ("steady_many", "steady_one") if not (f := arm.cost[name]).not_measured),
            arm.cost["steady_many"],
        )
        cost = [
            arm.cost["cache_bytes"],
            arm.cost["compress_seconds"],
            arm.cost["first_token_seconds"],
            arm.cost["decode_tokens_per_second"],
            memory,
        ]
        table.add_row(Text(visible(arm.name)), *accuracy, *(_short(figure) for figure in cost))
    return table


def _tasks(card: Scorecard) -> Table:
    """Exact match with a row for each task: many tasks have no room as columns."""
    arms = [arm for arm in card.arms if arm.main]
    table = Table(box=box.SIMPLE_HEAD, title="strict exact match", title_justify="left")
    table.add_column("task", style="bold")
    for arm in arms:
        table.add_column(Text(visible(arm.name)), justify="right")
    for task in card.tasks:
        figures = [arm.accuracy[task.label]["exact_match"] for arm in arms]
        table.add_row(Text(visible(task.label)), *(_short(figure) for figure in figures))
    return table


def _with_detail(figure: Figure) -> Text:
    if figure.not_measured:
        return Text("-", style="dim")
    return Text.assemble(figure.text, ("\n" + figure.detail, "dim"))


def _short(figure: Figure) -> Text:
    if figure.not_measured:
        return Text("N/A" if figure.not_applicable else "-", style="dim")
    return Text(figure.text)


def _criteria(card: Scorecard) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("criterion", "verdict", "value", "target", "points"):
        table.add_column(name, justify="right" if name == "points" else "left")
    for verdict in card.verdicts:
        shown = Text(verdict.value_text)
        if verdict.interval_text:
            shown.append(f"\n{verdict.interval_text}", style="dim")
        if verdict.outcome in ("NOT_MEASURED", "INCONCLUSIVE"):
            shown.append("\n" + visible(verdict.reason), style="dim")
        table.add_row(
            verdict.title,
            Text(verdict.outcome_text, style=OUTCOME_STYLE[verdict.outcome]),
            shown,
            verdict.target,
            f"{verdict.earned:g} of {verdict.weight:g}",
        )
    return table


def _published(card: Scorecard) -> list[Text]:
    if card.published is None:
        return []
    lines = [Text(visible(f"{card.published.label} ({card.published.comparability}):"))]
    return lines + [
        Text(visible(f"  {line.label}: {line.text}"), style="dim") for line in card.published.lines
    ]
