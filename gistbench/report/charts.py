"""Charts as inline SVG, drawn from the scorecard record alone.

Text stays text, in the page's font. Colours are custom properties of the page, so a chart follows
its light, dark and print colours; arms differ in marker and dash besides colour. The same record
gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gistbench.metrics import GIB, MIB
from gistbench.report.card import DepthTable, MemoryTrack
from gistbench.report.timeline import DEVICE_LAYERS
from gistbench.report.visible_text import visible

INK, GRID = "#010203", "#010204"
SERIES = ("#010210", "#010211", "#010212", "#010213", "#010214", "#010215")
PHASES = {"load": "#010220", "compress": "#010221", "steady": "#010222", "decode": "#010223"}
MARKERS, DASHES = ("o", "s", "^", "D", "v", "P"), ("-", "--", "-.", ":", "-", "--")

_VARIABLES = {
    INK: "var(--ink)",
    GRID: "var(--line)",
    **{colour: f"var(--series-{i + 1})" for i, colour in enumerate(SERIES)},
    **{colour: f"var(--phase-{phase})" for phase, colour in PHASES.items()},
}

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gistbench",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def depth_chart(table: DepthTable, prefix: str) -> str:
    """Accuracy over depth, one line per arm with Wilson's interval as its bar.

    Args:
        table: What to draw.
        prefix: Makes the ids in the SVG unique in the page.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 2.9), layout="constrained")
        axes = figure.add_subplot()
        step = 0.012 * (table.centres[-1] - table.centres[0])
        for number, row in enumerate(table.rows):
            points = [
                (centre + step * (number - (len(table.rows) - 1) / 2), cell.figure)
                for centre, cell in zip(table.centres, row.cells, strict=True)
            ]
            known = [(x, f.value, f.low, f.high) for x, f in points if f.value is not None]
            xs = [100 * x for x, _, _, _ in known]
            ys = [100 * value for _, value, _, _ in known]
            below = [100 * max(0.0, value - (low or 0.0)) for _, value, low, _ in known]
            above = [100 * max(0.0, (high or 0.0) - value) for _, value, _, high in known]
            axes.errorbar(
                xs,
                ys,
                yerr=[below, above],
                label=visible(row.arm),
                color=SERIES[number % len(SERIES)],
                marker=MARKERS[number % len(MARKERS)],
                linestyle=DASHES[number % len(DASHES)],
                markersize=5,
                linewidth=1.6,
                elinewidth=1,
                capsize=2.5,
            )
        axes.set_xlim(0, 100)
        axes.set_ylim(-3, 103)
        axes.set_xlabel("depth of the needle, % of the context")
        axes.set_ylabel("strict exact match, %")
        figure.legend(loc="outside upper left", ncols=6)
        return _svg(figure, prefix)


def memory_chart(tracks: Sequence[MemoryTrack], prefix: str) -> str:
    """Memory over time: one panel per arm on a common scale, phases as a band below the lines."""
    drawn = [track for track in tracks if track.layers]
    if not drawn:
        return ""
    names = _layers_to_draw(drawn)
    peak = max(v or 0 for t in drawn for lay in t.layers if lay.name in names for v in lay.values)
    unit, unit_name = (GIB, "GiB") if peak >= GIB / 2 else (MIB, "MiB")
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 0.6 + 1.5 * len(drawn)), layout="constrained")
        panels = figure.subplots(len(drawn), 1, sharey=True, squeeze=False)
        labels: dict[str, Line2D] = {}
        for axes, track in zip(panels[:, 0], drawn, strict=True):
            for layer in track.layers:
                if layer.name not in names:
                    continue
                number = names.index(layer.name)
                known = [
                    (x, value / unit)
                    for x, value in zip(track.seconds, layer.values, strict=True)
                    if value is not None
                ]
                (line,) = axes.plot(
                    *zip(*known, strict=True),
                    color=SERIES[number % len(SERIES)],
                    linestyle=DASHES[number % len(DASHES)],
                    linewidth=1.6,
                )
                labels.setdefault(layer.label, line)
            _mark_phases(axes, track)
            axes.set_ylim(-0.12 * peak / unit, 1.08 * peak / unit)
            axes.set_xlim(0, max(track.seconds[-1], 0.001))
            axes.set_ylabel(unit_name)
            axes.set_title(visible(track.arm), loc="left", fontsize=10, fontweight="bold")
        panels[-1, 0].set_xlabel("seconds since the arm's process started")
        phases = [p for p in PHASES if any(s.phase == p for t in drawn for s in t.phases)]
        handles = [*labels.values(), *(Patch(color=PHASES[phase]) for phase in phases)]
        figure.legend(handles, [*labels, *phases], loc="outside upper left", ncols=4)
        return _svg(figure, prefix)


def _layers_to_draw(tracks: Sequence[MemoryTrack]) -> list[str]:
    present = {layer.name for track in tracks for layer in track.layers}
    device = [name for name in DEVICE_LAYERS if name in present]
    return device or ["resident_bytes"]


def _mark_phases(axes: Axes, track: MemoryTrack) -> None:
    for span in track.phases:
        axes.axvspan(span.start, span.end, 0, 0.06, color=PHASES[span.phase], linewidth=0)


def _svg(figure: Figure, prefix: str) -> str:
    """The figure as an SVG element that can stand in a page."""
    target = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that only the reader's fonts have
        FigureCanvasSVG(figure).print_svg(
            target, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = target.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{prefix}-', text).replace(">*{", ">svg *{")
    text = text.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    text = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', text, count=1
    )
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return text
