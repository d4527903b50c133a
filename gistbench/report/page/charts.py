"""The charts of a scorecard, drawn from its record alone."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gistbench.metrics import GIB, MIB
from gistbench.report.card import MemoryTrack
from gistbench.report.latency import Latency
from gistbench.report.needle import DepthTable
from gistbench.report.page.svg import DASHES, MARKERS, PHASES, SERIES, chart_style, svg_of
from gistbench.report.page.visible_text import visible
from gistbench.report.sections.timeline import DEVICE_LAYERS


def depth_chart(table: DepthTable, prefix: str) -> str:
    """Accuracy over depth, one line per arm with Wilson's interval as its bar.

    Args:
        table: What to draw.
        prefix: Makes the ids in the SVG unique in the page.
    """
    with chart_style():
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
        return svg_of(figure, prefix)


def memory_chart(tracks: Sequence[MemoryTrack], prefix: str) -> str:
    """Memory over time: one panel per arm on a common scale, phases as a band below the lines."""
    drawn = [track for track in tracks if track.layers]
    if not drawn:
        return ""
    names = _layers_to_draw(drawn)
    peak = max(v or 0 for t in drawn for lay in t.layers if lay.name in names for v in lay.values)
    unit, unit_name = (GIB, "GiB") if peak >= GIB / 2 else (MIB, "MiB")
    with chart_style():
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
        return svg_of(figure, prefix)


def latency_chart(found: Latency | None, prefix: str) -> str:
    """Share of batches that took at most so long: a panel for each quantity, a step for each arm.

    Empty where no batch was timed.
    """
    if found is None or not found.panels:
        return ""
    arms = list(dict.fromkeys(curve.arm for panel in found.panels for curve in panel.curves))
    with chart_style():
        figure = Figure(figsize=(7.2, 3.0), layout="constrained")
        panels = figure.subplots(1, len(found.panels), sharey=True, squeeze=False)[0]
        for axes, panel in zip(panels, found.panels, strict=True):
            times = [seconds for curve in panel.curves for seconds in curve.seconds]
            unit, name = (1e-3, "ms") if max(times) < 1 else (1.0, "s")
            for curve in panel.curves:
                place = arms.index(curve.arm)
                axes.step(
                    [curve.seconds[0] / unit, *(seconds / unit for seconds in curve.seconds)],
                    [0, *(100 * share for share in curve.shares)],
                    where="post",
                    color=SERIES[place % len(SERIES)],
                    linestyle=DASHES[place % len(DASHES)],
                    linewidth=1.6,
                )
            if min(times) > 0 and max(times) > 8 * min(times):
                axes.set_xscale("log")
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.xaxis.set_minor_formatter(NullFormatter())
            else:
                axes.set_xlim(left=0)
            axes.set_ylim(0, 102)
            axes.set_title(panel.quantity, loc="left", fontsize=10, fontweight="bold")
            axes.set_xlabel(f"{name} of a batch")
        panels[0].set_ylabel("batches, %")
        handles = [
            Line2D([], [], color=SERIES[n % len(SERIES)], linestyle=DASHES[n % len(DASHES)])
            for n in range(len(arms))
        ]
        figure.legend(handles, [visible(arm) for arm in arms], loc="outside upper left", ncols=6)
        return svg_of(figure, prefix)


def _layers_to_draw(tracks: Sequence[MemoryTrack]) -> list[str]:
    present = {layer.name for track in tracks for layer in track.layers}
    device = [name for name in DEVICE_LAYERS if name in present]
    return device or ["resident_bytes"]


def _mark_phases(axes: Axes, track: MemoryTrack) -> None:
    for span in track.phases:
        axes.axvspan(span.start, span.end, 0, 0.06, color=PHASES[span.phase], linewidth=0)
