"""The sections of the page on long contexts: time per token and peak memory over length."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from gistbench.metrics import format_bytes, format_count, format_ratio, format_seconds
from gistbench.records import NotMeasured
from gistbench.report.savings.card import Chart, Curve, CurvePoint, PageSection
from gistbench.report.savings.naming import precision_name
from gistbench.report.sections.figures import absent
from gistbench.report.sections.tables import Group, metric_table
from gistbench.report.shown import Figure
from gistbench.speed.savings_records import LengthsRecord, LongRead, PrecisionReads, Way

WAYS = {"once": "at once", "chunked": "in chunks", "segments": "in segments"}


def reads(record: LengthsRecord) -> PageSection:
    """Every read, and the two curves."""
    settings = record.settings
    tables = []
    for precision in record.precisions:
        lengths = sorted(
            {read.context_tokens for read in precision.reads}
            | {read.context_tokens for read in precision.skipped}
        )
        groups: list[Group] = [
            (
                title,
                [(f"{length:,} tokens", _cells(precision, length, cell), "") for length in lengths],
            )
            for title, cell in (
                ("seconds of a read, median round", _seconds),
                ("time per token", _per_token),
                ("allocated by torch, peak", _peak),
                ("peak over weights, keys and values", _over_needed),
                ("peak over that of the shortest read in the same way", _over_shortest(precision)),
                ("peak over that of the shortest read at once", _over_shortest(precision, "once")),
                ("slots kept", _kept),
            )
        ]
        name = precision_name(precision.quantization, record.base.dtype)
        tables.append(
            metric_table(
                name, [words for way, words in WAYS.items() if way in settings["ways"]], groups
            )
        )
    return PageSection(
        id="reads",
        title="Reading long contexts",
        lead=(
            f"At once: one pass. In chunks: {settings['chunk_tokens']:,} tokens a pass, the same "
            f"gists. In segments of at most {settings['segment_tokens']:,} tokens: each is dropped "
            "before the next is read, which gives other gists, and no shipped checkpoint was "
            "trained for it. All ways of a length ran in turn.",
        ),
        tables=tuple(tables),
        charts=tuple(
            chart
            for chart in (
                _chart(record, "Time per token over the context's length", "seconds"),
                _chart(record, "Peak of allocated memory over the context's length", "bytes"),
            )
            if chart is not None
        ),
    )


def _cells(
    precision: PrecisionReads, length: int, cell: Callable[[LongRead], Figure]
) -> list[Figure]:
    ways = {read.way for read in precision.reads} | {read.way for read in precision.skipped}
    ordered = [way for way in WAYS if way in ways]
    found = []
    for way in ordered:
        read = next(
            (r for r in precision.reads if (r.way, r.context_tokens) == (way, length)), None
        )
        if read is not None:
            found.append(cell(read))
            continue
        skipped = next(s for s in precision.skipped if (s.way, s.context_tokens) == (way, length))
        found.append(absent(skipped.reason.not_measured))
    return found


def _seconds(read: LongRead) -> Figure:
    value = median(read.round_seconds)
    spread = (
        f"{format_seconds(min(read.round_seconds))} to {format_seconds(max(read.round_seconds))}"
    )
    return Figure(value=value, text=format_seconds(value), detail=spread)


def _per_token(read: LongRead) -> Figure:
    value = median(read.round_seconds) / read.context_tokens
    return Figure(value=value, text=format_seconds(value))


def _peak(read: LongRead) -> Figure:
    if isinstance(read.peak_bytes, NotMeasured):
        return absent(read.peak_bytes.not_measured)
    return Figure(value=read.peak_bytes, text=format_bytes(read.peak_bytes))


def _over_needed(read: LongRead) -> Figure:
    if isinstance(read.peak_bytes, NotMeasured):
        return absent(read.peak_bytes.not_measured)
    if isinstance(read.needed_bytes, NotMeasured):
        return absent(read.needed_bytes.not_measured)
    ratio = read.peak_bytes / read.needed_bytes
    return Figure(
        value=ratio, text=format_ratio(ratio), detail=f"of {format_bytes(read.needed_bytes)}"
    )


def _over_shortest(
    precision: PrecisionReads, way: Way | None = None
) -> Callable[[LongRead], Figure]:
    def cell(read: LongRead) -> Figure:
        wanted = way or read.way
        first = next((item for item in precision.reads if item.way == wanted), None)
        if first is None:
            return absent("nothing was read at once")
        if isinstance(read.peak_bytes, NotMeasured):
            return absent(read.peak_bytes.not_measured)
        if isinstance(first.peak_bytes, NotMeasured):
            return absent(first.peak_bytes.not_measured)
        ratio = read.peak_bytes / first.peak_bytes
        return Figure(
            value=ratio, text=format_ratio(ratio), detail=f"{first.context_tokens:,} tokens: 1x"
        )

    return cell


def _kept(read: LongRead) -> Figure:
    return Figure(value=read.kept_slots, text=format_count(read.kept_slots))


def _chart(record: LengthsRecord, title: str, unit: str) -> Chart | None:
    curves: list[Curve] = []
    for precision in record.precisions:
        name = precision_name(precision.quantization, record.base.dtype)
        for way, words in WAYS.items():
            points = []
            for read in precision.reads:
                if read.way != way:
                    continue
                value: float | NotMeasured = read.peak_bytes
                if unit == "seconds":
                    value = median(read.round_seconds) / read.context_tokens
                if not isinstance(value, NotMeasured):
                    points.append(CurvePoint(x=read.context_tokens, y=value))
            if points:
                curves.append(Curve(label=f"{name}, {words}", points=tuple(points)))
    if not curves:
        return None
    form = format_seconds if unit == "seconds" else format_bytes
    groups: list[Group] = [
        (
            curve.label,
            [
                (f"{point.x:,.0f} tokens", [Figure(value=point.y, text=form(point.y))], "")
                for point in curve.points
            ],
        )
        for curve in curves
    ]
    return Chart(
        title=title,
        x_label="context tokens",
        y_label="seconds a token" if unit == "seconds" else "GiB",
        unit="seconds" if unit == "seconds" else "bytes",
        curves=tuple(curves),
        behind=metric_table("The points of the chart", ["value"], groups),
    )
