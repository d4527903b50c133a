"""Charts of what many tasks, lengths and rivals add: what accuracy costs, and recovered bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from gistbench.metrics import GIB, MIB
from gistbench.report.evidence import GIST
from gistbench.report.ladder import BitsPoint, Tradeoff, TradeoffPoint
from gistbench.report.page.svg import DASHES, INK, MORE_MARKERS, SERIES, chart_style, svg_of
from gistbench.report.page.visible_text import visible
from gistbench.report.shown import Figure as Shown

COLUMNS = 3


def tradeoff_chart(found: Tradeoff | None, prefix: str) -> str:
    """Accuracy over kept bytes: the main panel, and small ones below it for the core tasks.

    Arms of one family are joined in the order of their budgets. Markers of arms that know the
    question before they read are hollow.

    Args:
        found: What to draw.
        prefix: Makes the ids in the SVG unique in the page.
    """
    if found is None or not found.points:
        return ""
    families = list(dict.fromkeys(point.family for point in found.points))
    small = len(found.panels) - 1
    rows = -(-small // COLUMNS)
    with chart_style():
        figure = Figure(figsize=(7.2, 4.4 + 2.3 * rows), layout="constrained")
        grid = figure.add_gridspec(1 + rows, COLUMNS, height_ratios=[1.5] + [1] * rows)
        panels = [figure.add_subplot(grid[0, :])]
        panels += [figure.add_subplot(grid[1 + n // COLUMNS, n % COLUMNS]) for n in range(small)]
        for number, (axes, title) in enumerate(zip(panels, found.panels, strict=True)):
            for place, family in enumerate(families):
                points = [p for p in found.points if p.family == family]
                _draw_family(axes, points, number, place)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_locator(LogLocator(base=16 if number else 4))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _power_of_two(value)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_ylim(-4, 104)
            axes.set_title(visible(title), loc="left", fontsize=10, fontweight="bold")
            if number:
                axes.tick_params(axis="x", labelsize=7.5)
        panels[0].set_ylabel("strict exact match, %")
        panels[0].set_xlabel("keys and values kept for one context")
        hollow = {p.family for p in found.points if p.sees_question}
        handles = [
            Line2D([], [], **_look(place, family in hollow), label=visible(family))
            for place, family in enumerate(families)
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=4)
        return svg_of(figure, prefix)


def _draw_family(axes: Axes, points: Sequence[TradeoffPoint], panel: int, place: int) -> None:
    known = [(p.cache_bytes, p.rates[panel]) for p in points]
    known = [(x, rate) for x, rate in known if rate.value is not None]
    if not known:
        return
    hollow = any(point.sees_question for point in points)
    gist = points[0].family == GIST  # what the page is about stands out
    xs = [x for x, _ in known]
    ys, below, above = _percentages([rate for _, rate in known])
    axes.errorbar(
        xs,
        ys,
        yerr=[below, above],
        elinewidth=0.8,
        capsize=2 if panel == 0 else 0,
        zorder=5 if gist else 2,
        **_look(place, hollow, size=(6 if panel == 0 else 4) + 2 * gist),
    )


def _look(place: int, hollow: bool, size: float = 6) -> dict[str, Any]:
    colour = SERIES[place % len(SERIES)]
    return {
        "color": colour,
        "marker": MORE_MARKERS[place % len(MORE_MARKERS)],
        "linestyle": DASHES[place % len(DASHES)],
        "markersize": size,
        "markerfacecolor": "none" if hollow else colour,
        "linewidth": 1.3,
    }


def _power_of_two(size_bytes: float) -> str:
    """A tick of the byte axis: a power of two needs no decimals."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (1024, "KiB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:g} {name}"
    return f"{size_bytes:g} B"


def bits_chart(points: Sequence[BitsPoint], prefix: str) -> str:
    """Recovered bits per gist token over the compression ratio, a line for each task.

    Empty where every task has one length: a single point makes no curve.
    """
    tasks = list(dict.fromkeys(point.task for point in points))
    if len(points) == len(tasks):
        return ""
    with chart_style():
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for place, task in enumerate(tasks):
            found = sorted(
                (p for p in points if p.task == task), key=lambda p: p.ratio.value or 0.0
            )
            ys = [p.recovered.value or 0.0 for p in found]
            axes.errorbar(
                [p.ratio.value or 0.0 for p in found],
                ys,
                yerr=[
                    [y - (p.recovered.low or 0.0) for y, p in zip(ys, found, strict=True)],
                    [(p.recovered.high or 0.0) - y for y, p in zip(ys, found, strict=True)],
                ],
                elinewidth=0.8,
                capsize=2,
                label=visible(task),
                **_look(place, False),
            )
        axes.set_xlabel("context tokens for each gist token")
        axes.set_ylabel("bits recovered per gist token")
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside upper left", ncols=3, labelcolor=INK)
        return svg_of(figure, prefix)


def _percentages(rates: Sequence[Shown]) -> tuple[list[float], list[float], list[float]]:
    """Rates in percent, and the lengths of their intervals below and above."""
    ys = [100 * (rate.value or 0.0) for rate in rates]
    below = [max(0.0, y - 100 * (rate.low or 0.0)) for y, rate in zip(ys, rates, strict=True)]
    above = [max(0.0, 100 * (rate.high or 0.0) - y) for y, rate in zip(ys, rates, strict=True)]
    return ys, below, above
