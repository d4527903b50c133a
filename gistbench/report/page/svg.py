"""Charts as inline SVG: the style they share, and how a figure becomes a part of the page.

Text stays text, in the page's font. Colours are custom properties of the page, so a chart follows
its light, dark and print colours; series differ in marker and dash besides colour. The same record
gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, GRID = "#010203", "#010204"
SERIES = ("#010210", "#010211", "#010212", "#010213", "#010214", "#010215")
PHASES = {"load": "#010220", "compress": "#010221", "steady": "#010222", "decode": "#010223"}
MARKERS, DASHES = ("o", "s", "^", "D", "v", "P"), ("-", "--", "-.", ":", "-", "--")
MORE_MARKERS = (*MARKERS, "X", "<", ">", "p", "h", "*", "d", "8")

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


@contextmanager
def chart_style() -> Iterator[None]:
    """Settings under which every chart is drawn."""
    with matplotlib.rc_context(_STYLE):
        yield


def svg_of(figure: Figure, prefix: str) -> str:
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
    text = re.sub(r"(\d\.\d{2})\d+", r"\1", text)  # a hundredth of a point is fine enough
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return text
