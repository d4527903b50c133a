"""The charts of a history: small panels, a line for each arm, runs at equal distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from gistbench.metrics import METRICS
from gistbench.report.history.records import HistoryRun, Trend, TrendLine
from gistbench.report.page.svg import DASHES, MORE_MARKERS, SERIES, chart_style, svg_of
from gistbench.report.page.visible_text import visible

COLUMNS = 2
MOST_TICKS = 4
OUT_OF_100 = {"exact_match": "exact match, %", "score": "points"}
"""Metrics whose axis is fixed, and its label."""
LOGARITHMIC_FROM = 20
"""Ratio of the largest to the smallest value from which a linear axis would hide the small ones."""


def trend_chart(trends: Sequence[Trend], runs: Sequence[HistoryRun], prefix: str) -> str:
    """A panel for each trend.

    Args:
        trends: What to draw.
        runs: Their dates stand under the panels.
        prefix: Makes the ids in the SVG unique in the page.
    """
    if not trends:
        return ""
    arms = list(dict.fromkeys(line.arm for trend in trends for line in trend.lines))
    rows = -(-len(trends) // COLUMNS)
    columns = min(COLUMNS, len(trends))
    with chart_style():
        figure = Figure(figsize=(7.2, 0.5 + 2.3 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, trend in zip(panels, trends, strict=False):
            for line in trend.lines:
                _draw(axes, line, arms.index(line.arm), percent=trend.metric == "exact_match")
            _label(axes, trend, runs)
        for axes in panels[len(trends) :]:
            axes.set_axis_off()
        handles = [
            Line2D([], [], label=visible(arm), **_look(place)) for place, arm in enumerate(arms)
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=6)
        return svg_of(figure, prefix)


def _draw(axes: Axes, line: TrendLine, place: int, *, percent: bool) -> None:
    known = [point for point in line.points if point.figure.value is not None]
    for conditions in dict.fromkeys(point.conditions for point in known):
        points = [point for point in known if point.conditions == conditions]
        xs = [point.run + 1 for point in points]
        scale = 100 if percent else 1
        ys = [scale * (point.figure.value or 0.0) for point in points]
        if not percent:
            axes.plot(xs, ys, **_look(place))
            continue
        lows = [scale * (point.figure.low or 0.0) for point in points]
        highs = [scale * (point.figure.high or 0.0) for point in points]
        below = [max(0.0, y - low) for y, low in zip(ys, lows, strict=True)]
        above = [max(0.0, high - y) for y, high in zip(ys, highs, strict=True)]
        axes.errorbar(xs, ys, yerr=[below, above], elinewidth=0.8, capsize=2, **_look(place))


def _label(axes: Axes, trend: Trend, runs: Sequence[HistoryRun]) -> None:
    count = len(runs)
    step = max(1, -(-count // MOST_TICKS))
    ticks = list(range(0, count, step))
    axes.set_xlim(0.6, count + 0.4)
    axes.set_xticks([tick + 1 for tick in ticks], [visible(runs[tick].when[5:]) for tick in ticks])
    axes.tick_params(axis="x", labelsize=7.5)
    axes.set_title(visible(trend.title), loc="left", fontsize=9, fontweight="bold")
    if trend.metric in OUT_OF_100:
        axes.set_ylim(-4, 104)
        axes.set_ylabel(OUT_OF_100[trend.metric])
        return
    values = [p.figure.value for line in trend.lines for p in line.points if p.figure.value]
    axes.set_ylim(0, 1.15 * max(values, default=1))
    if values and max(values) / min(values) >= LOGARITHMIC_FROM:
        axes.set_yscale("log", base=2)
        axes.set_ylim(min(values) / 2, 2 * max(values))
        axes.yaxis.set_major_locator(LogLocator(base=4))
        axes.yaxis.set_minor_locator(NullLocator())
    show = METRICS[trend.metric].format
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))


def _look(place: int) -> dict[str, Any]:
    return {
        "color": SERIES[place % len(SERIES)],
        "marker": MORE_MARKERS[place % len(MORE_MARKERS)],
        "linestyle": DASHES[place % len(DASHES)],
        "markersize": 5,
        "linewidth": 1.4,
    }
