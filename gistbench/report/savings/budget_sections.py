"""The section on what a budget holds, and how fast that is."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from gistbench.metrics import format_bytes, format_count, format_rate
from gistbench.records import NotMeasured
from gistbench.report.savings.card import Chart, Curve, CurvePoint, PageSection
from gistbench.report.savings.corners import ARMS, number_of, rates_of
from gistbench.report.savings.naming import FULL_GIST, names_of
from gistbench.report.sections.figures import absent
from gistbench.report.sections.tables import Group, metric_table
from gistbench.report.shown import Figure, MetricTable
from gistbench.speed.savings_records import (
    BudgetRounds,
    Filled,
    PrecisionSavings,
    Probe,
    SavingsRecord,
)


def budget(record: SavingsRecord) -> PageSection | None:
    """What fits, and how fast it is."""
    filled: list[Group] = []
    rates: list[Group] = []
    for precision in record.precisions:
        name = names_of(record)[precision.quantization]
        rows = []
        for part, label in (("stored", "stored"), ("answered", "being answered")):
            found: tuple[Filled, ...] | NotMeasured | None = getattr(precision, part)
            if found is not None:
                rows.append((label, [_filled_cell(found, arm) for arm in ARMS], ""))
        if rows:
            filled.append((name, rows))
        if precision.throughput is not None:
            rates.append((name, _rate_rows(precision)))
    if not filled:
        return None
    settings = record.settings
    size = f"{settings['budget_gib']:g} GiB"
    live = settings["question_tokens"] + settings["new_tokens"]
    tables = [metric_table(f"Contexts within {size}, found by filling", list(FULL_GIST), filled)]
    if rates:
        caption = f"Tokens a second within {size}, each arm at its fastest batch, in turn"
        tables.append(metric_table(caption, list(FULL_GIST), rates))
    charts = [chart for chart in [_rate_chart(record, size)] if chart is not None]
    return PageSection(
        id="budget",
        title=f"Within {size}",
        lead=(
            f"The budget counts {record.budget_counts}. Stored: caches lie in memory, the last "
            f"context being read while all others are there. Being answered: a batch decodes until "
            f"each row has {live} live tokens of its own, its last context having been read "
            "while the others lay in the batch. Every number was tried, what fits twice.",
        ),
        tables=tuple(tables),
        charts=tuple(charts),
        folded=tuple(_probe_tables(record)),
    )


def _filled_cell(found: tuple[Filled, ...] | NotMeasured, arm: str) -> Figure:
    if isinstance(found, NotMeasured):
        return absent(found.not_measured)
    filled = next(item for item in found if item.arm == arm)
    ends = {
        "budget": "the budget ends there",
        "device": "the device, smaller than the budget, ends there",
        "limit": "no more were tried (--most-contexts)",
    }
    beyond = f"{filled.fails:,} do not fit; " if filled.fails is not None else ""
    used = max((p.used_bytes or 0 for p in filled.probes if p.contexts == filled.fits), default=0)
    return Figure(
        value=filled.fits,
        text=format_count(filled.fits),
        detail=f"{beyond}{ends[filled.ended_by]}; {format_bytes(used)} used",
        n=len(filled.probes),
    )


def _rate_rows(precision: PrecisionSavings) -> list[tuple[str, list[Figure], str]]:
    found = precision.throughput
    if isinstance(found, NotMeasured) or found is None:
        reason = found.not_measured if found is not None else ""
        return [("tokens a second", [absent(reason)] * 2, "")]
    batches = [Figure(value=side.contexts, text=format_count(side.contexts)) for side in found]
    return [
        ("tokens a second, steps alone", [_rate_cell(rates_of(side)) for side in found], ""),
        (
            "tokens a second, questions read too",
            [_rate_cell(_whole_rates(side)) for side in found],
            "the first token of each answer counts here",
        ),
        ("contexts in the batch", batches, ""),
    ]


def _whole_rates(side: BudgetRounds) -> list[float]:
    tokens = side.contexts * (side.steps + 1)
    pairs = zip(side.question_seconds, side.decode_seconds, strict=True)
    return [tokens / (question + decode) for question, decode in pairs]


def _rate_cell(rates: Sequence[float]) -> Figure:
    middle = median(rates)
    spread = f"{format_rate(min(rates))} to {format_rate(max(rates))}"
    return Figure(value=middle, text=format_rate(middle), detail=spread, n=len(rates))


def _timed(record: SavingsRecord) -> list[tuple[str, list[tuple[Probe, float]]]]:
    """Each arm at each precision, and its probes that were timed, by batch size."""
    steps = record.settings["new_tokens"]
    found = []
    for precision in record.precisions:
        answered = precision.answered
        for filled in answered if isinstance(answered, tuple) else ():
            first = {p.contexts: p for p in reversed(filled.probes) if p.decode_seconds}
            timed = [
                (first[size], size * steps / (first[size].decode_seconds or 1))
                for size in sorted(first)
                if first[size].outcome == "fits"
            ]
            arm = FULL_GIST[ARMS.index(filled.arm)]
            found.append((f"{names_of(record)[precision.quantization]}, {arm}", timed))
    return found


def _rate_chart(record: SavingsRecord, size: str) -> Chart | None:
    timed = _timed(record)
    if not timed:
        return None
    curves = tuple(
        Curve(
            label=label,
            points=tuple(CurvePoint(x=probe.contexts, y=rate) for probe, rate in points),
        )
        for label, points in timed
    )
    groups: list[Group] = [
        (
            label,
            [
                (
                    number_of(probe.contexts),
                    [
                        Figure(value=rate, text=format_rate(rate)),
                        Figure(value=probe.used_bytes, text=format_bytes(probe.used_bytes or 0)),
                    ],
                    "",
                )
                for probe, rate in points
            ],
        )
        for label, points in timed
    ]
    return Chart(
        title=f"Tokens a second over the contexts of a batch, within {size}; one round each",
        x_label="contexts answered together",
        y_label="tokens a second",
        unit="rate",
        curves=curves,
        behind=metric_table("Every batch that fitted", ["tokens a second", "used"], groups),
    )


def _probe_tables(record: SavingsRecord) -> list[MetricTable]:
    tables = []
    for part, title in (("stored", "stored"), ("answered", "answered")):
        groups: list[Group] = []
        for precision in record.precisions:
            found: tuple[Filled, ...] | NotMeasured | None = getattr(precision, part)
            for filled in found if isinstance(found, tuple) else ():
                rows = [
                    (number_of(probe.contexts), [Figure(text=probe.outcome), _used(probe)], "")
                    for probe in filled.probes
                ]
                name = names_of(record)[precision.quantization]
                groups.append((f"{name}, {FULL_GIST[ARMS.index(filled.arm)]}", rows))
        if groups:
            caption = f"Every try with contexts {title}, in order"
            tables.append(metric_table(caption, ["outcome", "used"], groups))
    return tables


def _used(probe: Probe) -> Figure:
    if probe.used_bytes is None:
        return absent("memory ran out before the end")
    return Figure(value=probe.used_bytes, text=format_bytes(probe.used_bytes))
