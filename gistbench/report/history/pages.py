"""A history of runs as an HTML page and as Markdown."""

from __future__ import annotations

from markupsafe import Markup

from gistbench.report.history.charts import trend_chart
from gistbench.report.history.records import History
from gistbench.report.page.pages import fill_html, fill_markdown


def history_html(found: History) -> str:
    """One self-contained file: no script, no network, charts inline."""
    return fill_html(
        "history.html.j2",
        found=found,
        accuracy_charts=[
            Markup(trend_chart(group.accuracy_trends, group.runs, f"accuracy{number}"))
            for number, group in enumerate(found.groups)
        ],
        cost_charts=[
            Markup(trend_chart(group.cost_trends, group.runs, f"costs{number}"))
            for number, group in enumerate(found.groups)
        ],
    )


def history_markdown(found: History) -> str:
    """The same figures for a pull request."""
    return fill_markdown("history.md.j2", found=found)
