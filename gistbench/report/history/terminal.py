"""A history in a terminal: a line for each run, and the steps that a test can tell."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gistbench.report.compare.terminal import BADGE_STYLE
from gistbench.report.history.records import History, HistoryGroup
from gistbench.report.page.visible_text import visible

MOST_COLUMNS = 6


def history_table(found: History) -> Group:
    """The history as it is printed; charts and costs are on the page."""
    parts: list[RenderableType] = [Text(visible(f"{found.folder}: {found.summary}"), style="bold")]
    parts += [Text(visible(f"INVALID-LEAK: {text}"), style="bold red") for text in found.invalid]
    for group in found.groups:
        parts.append(_group(group))
        parts += [
            Text.assemble(
                (f"{flag.verdict}: ", BADGE_STYLE.get(flag.verdict, "")), visible(flag.text)
            )
            for flag in group.flags
        ]
        if not group.flags:
            parts.append(Text("no step is called better or worse", style="dim"))
        parts += [Text(visible(f"since the first: {text}")) for text in group.since_first]
    for run in found.single:
        text = f"alone: {run.label} ({run.when}), {run.score.text}"
        parts.append(Text(visible(text), style="dim"))
    for skipped in found.skipped:
        parts.append(Text(visible(f"skipped: {skipped.folder}: {skipped.reason}"), style="yellow"))
    return Group(*parts)


def _group(group: HistoryGroup) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, title=Text(visible(group.title), style="bold"), title_justify="left"
    )
    table.add_column("run", style="bold", overflow="fold")
    for name in ("date", "commit", "score"):
        table.add_column(name)
    arms = group.accuracy.groups  # not empty: a run has an arm that is no control
    tasks = group.accuracy.columns[: max(1, MOST_COLUMNS // len(arms))]
    for arm in arms:
        for task in tasks:
            table.add_column(Text(visible(f"{arm.title}, {task}")))
    for number, run in enumerate(group.runs):
        rates = [
            Text(visible(cell.text), style=BADGE_STYLE.get(cell.badge, ""))
            for arm in arms
            for cell in arm.rows[number].cells[: len(tasks)]
        ]
        about = (run.label, run.when, run.commit, run.score.text)
        table.add_row(*(Text(visible(text)) for text in about), *rates)
    return table
