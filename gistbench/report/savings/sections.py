"""The sections of the page on what gists buy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gistbench.metrics import (
    format_bytes,
    format_count,
    format_percent,
    format_rate,
    format_seconds,
)
from gistbench.records import NotMeasured
from gistbench.report.savings.break_even import BreakEven, Rival, break_even
from gistbench.report.savings.card import Chart, Curve, CurvePoint, PageSection
from gistbench.report.savings.corners import ARMS, Corner, Saved, number_of, phase_of, quantities
from gistbench.report.savings.factors import NOT_THERE, Apart, Factor, apart, factor
from gistbench.report.sections.figures import absent
from gistbench.report.sections.tables import Group, metric_table
from gistbench.report.shown import Figure, MetricTable
from gistbench.speed.savings_records import (
    Filled,
    KeyValues,
    PrecisionSavings,
    Probe,
    SavingsRecord,
)

FULL_GIST = ("full context", "gists")
RIVALS: tuple[tuple[Rival, str], ...] = (
    ("kept", "against full context with its cache kept"),
    ("read again", "against reading the context again for every question"),
)


def precision_name(quantization: str, dtype: str) -> str:
    """As people call it."""
    return "NF4" if quantization == "nf4" else {"bfloat16": "bf16", "float32": "fp32"}[dtype]


def names_of(record: SavingsRecord) -> dict[str, str]:
    """Of every precision measured."""
    return {
        p.quantization: precision_name(p.quantization, record.base.dtype) for p in record.precisions
    }


def broken_figures(record: SavingsRecord) -> tuple[str, ...]:
    """Figures that contradict a floor or a prediction."""
    found = []
    for saved in quantities(record):
        for quantization, name in names_of(record).items():
            ratio = factor(saved, (quantization, "full"), (quantization, "gist"))
            if isinstance(ratio, Factor) and ratio.broken:
                found.append(
                    f"{saved.label}, {name}: {ratio.value:.4g}x lies above the floor ratio of "
                    f"{ratio.floor:.4g}x. Full context is further from its own floor than gists "
                    "are from theirs, so this figure tells of that and not of gists."
                )
    for precision in record.precisions:
        for item in precision.key_values:
            if not item.equal:
                found.append(
                    f"keys and values of {item.arm}, {names_of(record)[precision.quantization]}: "
                    f"{item.measured_bytes:,} bytes measured, {item.predicted_bytes:,} predicted."
                )
    return tuple(found)


def headline(record: SavingsRecord) -> PageSection:
    """Gists against full context, at each precision."""
    names = names_of(record)
    table = metric_table(
        "Gists over full context, both in one process and in turn",
        list(names.values()),
        _by_sense(
            record,
            lambda saved: [_ratio(factor(saved, (q, "full"), (q, "gist"))) for q in names],
        ),
    )
    return PageSection(
        id="ratios",
        title="What gists buy",
        lead=(
            "Intervals are at 95 %, from paired rounds; of numbers that were found by trying they "
            "are what fitted and what did not. The floor ratio is what the bytes and operations "
            "that nobody can do without leave to be saved.",
        ),
        tables=(table,),
    )


def _by_sense(record: SavingsRecord, cells: Callable[[Saved], list[Figure]]) -> list[Group]:
    """Costs, of which less is wanted, and what is wanted more of."""
    groups: list[Group] = []
    for better, title in (("less", "times less of a cost"), ("more", "times more")):
        rows = [
            (saved.label, cells(saved), "")
            for saved in quantities(record)
            if saved.better == better and saved.values
        ]
        if rows:
            groups.append((title, rows))
    return groups


def _ratio(found: Factor | NotMeasured) -> Figure:
    if isinstance(found, NotMeasured):
        return absent(found.not_measured)
    return Figure(
        value=found.value,
        low=found.low,
        high=found.high,
        text=f"{found.value:.4g}x",
        detail=found.detail,
        badge="INVALID" if found.broken else "",
    )


def attribution(record: SavingsRecord) -> PageSection | None:
    """NF4's part and the gists' part of every saving."""
    if len(record.precisions) < 2:
        return None
    plain = names_of(record)["none"]
    corners = [
        (saved.label, [_value(saved, (q, arm)) for q in ("none", "nf4") for arm in ARMS], "")
        for saved in quantities(record)
        if saved.values
    ]
    values = metric_table(
        "The four corners",
        [f"{name}, {arm}" for name in (plain, "NF4") for arm in FULL_GIST],
        [("value", corners)],
    )
    steps = metric_table(
        f"From full context in {plain} to gists in NF4, step by step, in both orders",
        [
            f"gists in {plain}",
            "then NF4",
            "NF4 in full context",
            "then gists",
            "both",
        ],
        _by_sense(record, lambda saved: _apart_cells(apart(saved))),
    )
    whose = metric_table(
        "Whose saving it is: each step's share of the whole, in both orders",
        ["gists first", "NF4 after them", "NF4 first", "gists after it"],
        _by_sense(record, lambda saved: _share_cells(apart(saved))),
    )
    return PageSection(
        id="apart",
        title="Gists and NF4 apart",
        lead=(
            "What the second step finds is what the first has left: both orders are shown, and "
            "each multiplies to the same whole. Shares are of the difference for costs, which add "
            "up, and of the logarithm for contexts and rates, which multiply.",
            "The two precisions ran one after the other, not in turn; multiples between them have "
            "no interval.",
        ),
        tables=(values, steps, whose),
    )


def _apart_cells(found: Apart) -> list[Figure]:
    steps = (found.gists[0], found.nf4[1], found.nf4[0], found.gists[1], found.both)
    return [
        absent(each.not_measured)
        if isinstance(each, NotMeasured)
        else Figure(value=each.value, text=f"{each.value:.4g}x")
        for each in steps
    ]


def _share_cells(found: Apart) -> list[Figure]:
    if isinstance(found.shares, NotMeasured):
        return [absent(found.shares.not_measured)] * 4
    if isinstance(found.shares, str):
        return [Figure(text="N/A", not_measured=found.shares, not_applicable=True)] * 4
    return [Figure(value=share, text=format_percent(share)) for share in found.shares]


def _value(saved: Saved, corner: Corner) -> Figure:
    value = saved.values.get(corner, NotMeasured(not_measured=NOT_THERE))
    if isinstance(value, NotMeasured):
        return absent(value.not_measured)
    return Figure(value=value, text=saved.form(value))


def phases(record: SavingsRecord) -> PageSection | None:
    """Time and memory of every phase."""
    tables = []
    for precision in record.precisions:
        if precision.phases is None:
            continue
        name = names_of(record)[precision.quantization]
        keys = dict.fromkeys((cost.phase, cost.contexts) for cost in precision.phases)
        groups: list[Group] = []
        for title, attribute, form in (
            ("seconds, median round", "round_seconds", format_seconds),
            ("allocated by torch, peak", "torch_allocated_bytes", format_bytes),
            ("reserved by torch, peak", "torch_reserved_bytes", format_bytes),
            ("device memory (NVML), peak", "device_bytes", format_bytes),
            ("energy of the device", "joules", lambda value: f"{value:,.3g} J"),
        ):
            rows = []
            for phase, contexts in keys:
                if phase == "steady" and attribute == "round_seconds":
                    continue
                cells = []
                for arm in ARMS:
                    cost = phase_of(precision, arm, phase, contexts)
                    value = getattr(cost, attribute) if cost else None
                    cells.append(_phase_cell(value, form))
                note = "while nothing runs" if phase == "steady" else ""
                if attribute == "joules":
                    note = "a second of it" if phase == "steady" else "the whole phase"
                rows.append((_phase_label(phase, contexts), cells, note))
            groups.append((title, rows))
        tables.append(metric_table(f"{name}: every phase", list(FULL_GIST), groups))
    if not tables:
        return None
    skipped = [text for precision in record.precisions for text in precision.skipped]
    settings = record.settings
    return PageSection(
        id="phases",
        title="Phase by phase",
        lead=(
            f"A context has {settings['context_tokens']:,} tokens, a question "
            f"{settings['question_tokens']:,}, an answer {settings['new_tokens']:,} behind its "
            "first token. Contexts are read one at a time and answered together. Memory is that "
            "of one arm alone on the device.",
            *(f"Skipped: {text}." for text in skipped),
        ),
        tables=tuple(tables),
    )


def _phase_label(phase: str, contexts: int) -> str:
    words = {
        "compress": "read a context",
        "steady": "hold {}",
        "question": "read the questions of {}",
        "decode": "decode the answers of {}",
    }
    return words[phase].format(number_of(contexts))


def _phase_cell(value: object, form: object) -> Figure:
    if isinstance(value, NotMeasured):
        return absent(value.not_measured)
    if value is None or value == ():
        return absent("both arms at once, whose times alternate, did not fit")
    if isinstance(value, tuple):
        seconds = sorted(value)
        middle = seconds[len(seconds) // 2]
        spread = f"{format_seconds(seconds[0])} to {format_seconds(seconds[-1])}"
        return Figure(value=middle, text=format_seconds(middle), detail=spread, n=len(seconds))
    return Figure(value=float(value), text=str(form(value)))  # type: ignore[arg-type,operator]


def key_values(record: SavingsRecord) -> PageSection | None:
    """Predicted and measured, equal to the byte or not."""
    groups: list[Group] = []
    for precision in record.precisions:
        rows = [(item.arm, _byte_cells(item), "") for item in precision.key_values]
        if rows:
            groups.append((names_of(record)[precision.quantization], rows))
    if not groups:
        return None
    table = metric_table(
        "Keys and values of one context, in bytes",
        ["slots", "predicted", "measured", "equal", "grown in the allocator"],
        groups,
    )
    return PageSection(
        id="bytes",
        title="Keys and values, predicted and measured",
        lead=(
            "Predicted from the architecture; measured on the tensors that a read leaves; and what "
            "torch's allocator grew by for each of many stored contexts, which it hands out in "
            "multiples of 512 bytes.",
        ),
        tables=(table,),
    )


def _byte_cells(item: KeyValues) -> list[Figure]:
    grown = item.allocated_bytes
    return [
        Figure(value=item.slots, text=format_count(item.slots)),
        Figure(value=item.predicted_bytes, text=format_count(item.predicted_bytes)),
        Figure(value=item.measured_bytes, text=format_count(item.measured_bytes)),
        Figure(text="equal" if item.equal else "NOT EQUAL", badge="PASS" if item.equal else "FAIL"),
        absent(grown.not_measured)
        if isinstance(grown, NotMeasured)
        else Figure(value=grown, text=format_count(grown)),
    ]


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
    rows: list[tuple[str, list[Figure], str]] = []
    cells = {"steps": [], "all": [], "batch": []}  # type: dict[str, list[Figure]]
    for side in found:
        tokens = side.contexts * side.steps
        steps = sorted(tokens / seconds for seconds in side.decode_seconds)
        pairs = zip(side.question_seconds, side.decode_seconds, strict=True)
        whole = sorted((tokens + side.contexts) / (q + d) for q, d in pairs)
        cells["steps"].append(_rate_cell(steps))
        cells["all"].append(_rate_cell(whole))
        cells["batch"].append(Figure(value=side.contexts, text=format_count(side.contexts)))
    rows.append(("tokens a second, steps alone", cells["steps"], ""))
    rows.append(("tokens a second, questions read too", cells["all"], "beside it"))
    rows.append(("contexts in the batch", cells["batch"], ""))
    return rows


def _rate_cell(rates: Sequence[float]) -> Figure:
    middle = rates[len(rates) // 2]
    spread = f"{format_rate(rates[0])} to {format_rate(rates[-1])}"
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


def questions(record: SavingsRecord) -> PageSection | None:
    """After how many questions compressing once has paid."""
    groups: list[Group] = []
    sizes = [int(size) for size in record.settings["contexts"]]
    for precision in record.precisions:
        rows = []
        for size in sizes:
            cells = [_break_even_cell(break_even(precision, size, rival)) for rival, _ in RIVALS]
            label = f"{number_of(size)} answered together"
            rows.append((label, cells, ""))
        if precision.phases is not None:
            groups.append((names_of(record)[precision.quantization], rows))
    if not groups:
        return None
    table = metric_table(
        "Questions about one context from which compressing once has taken less time",
        [words for _, words in RIVALS],
        groups,
    )
    return PageSection(
        id="questions",
        title="After how many questions it pays",
        lead=(
            "Seconds alone; what is saved in memory comes on top. Interval: Fieller's, of the "
            "rounds.",
        ),
        tables=(table,),
    )


def _break_even_cell(found: BreakEven | NotMeasured) -> Figure:
    if isinstance(found, NotMeasured):
        return absent(found.not_measured)
    return Figure(
        value=found.questions, low=found.low, high=found.high, text=found.text, detail=found.detail
    )
