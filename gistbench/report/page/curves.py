"""Curves with logarithmic axes: speed over a batch, time and memory over a length."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from gistbench.metrics import GIB, format_rate, format_seconds
from gistbench.report.page.svg import DASHES, MARKERS, SERIES, chart_style, svg_of
from gistbench.report.page.visible_text import visible
from gistbench.report.savings.card import Chart


def curve_chart(chart: Chart, prefix: str) -> str:
    """One line for each curve, points marked; empty where no curve has two of them.

    Args:
        chart: What to draw.
        prefix: Makes the ids in the SVG unique in the page.
    """
    if not any(len(curve.points) > 1 for curve in chart.curves):
        return ""
    with chart_style():
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.add_subplot()
        scale = GIB if chart.unit == "bytes" else 1
        for number, curve in enumerate(chart.curves):
            axes.plot(
                [point.x for point in curve.points],
                [point.y / scale for point in curve.points],
                label=visible(curve.label),
                color=SERIES[number % len(SERIES)],
                marker=MARKERS[number % len(MARKERS)],
                linestyle=DASHES[number % len(DASHES)],
                markersize=5,
                linewidth=1.6,
            )
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(LogLocator(base=2, numticks=12))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        if chart.unit == "bytes":
            axes.set_ylim(bottom=0)
        else:
            axes.set_yscale("log")
            # Also within one power of ten there are ticks to read.
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
            form = format_seconds if chart.unit == "seconds" else format_rate
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
        axes.set_xlabel(chart.x_label)
        axes.set_ylabel(chart.y_label)
        figure.legend(loc="outside upper left", ncols=3)
        return svg_of(figure, prefix)
