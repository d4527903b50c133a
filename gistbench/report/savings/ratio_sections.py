"""Sections on ratios: gists against full context, and gists and NF4 apart."""

from __future__ import annotations

from collections.abc import Callable

from gistbench.metrics import format_percent
from gistbench.records import NotMeasured
from gistbench.report.savings.card import PageSection
from gistbench.report.savings.corners import ARMS, Corner, Saved, quantities
from gistbench.report.savings.factors import NOT_THERE, Apart, Factor, apart, factor
from gistbench.report.savings.naming import FULL_GIST, names_of
from gistbench.report.sections.figures import absent
from gistbench.report.sections.tables import Group, metric_table
from gistbench.report.shown import Figure
from gistbench.speed.savings_records import BudgetRounds, PhaseCost, SavingsRecord


def broken_figures(record: SavingsRecord) -> tuple[str, ...]:
    """Figures that contradict a floor or a prediction."""
    found = []
    for saved in quantities(record):
        for quantization, name in names_of(record).items():
            ratio = factor(saved, (quantization, "full"), (quantization, "gist"))
            if isinstance(ratio, Factor) and ratio.broken:
                what = f"{_sentence(saved.label)}, {name}"
                found.append(
                    f"{what}: {ratio.value:.4g}x lies above the floor ratio of {ratio.floor:.4g}x. "
                    "Full context is further from its own floor than gists are from theirs, so "
                    "this figure tells of that and not of gists."
                )
    for precision in record.precisions:
        for item in precision.key_values:
            if not item.equal:
                found.append(
                    f"Keys and values of {item.arm}, {names_of(record)[precision.quantization]}: "
                    f"{item.measured_bytes:,} bytes measured, {item.predicted_bytes:,} predicted."
                )
    return tuple(found)


def _sentence(label: str) -> str:
    return label[:1].upper() + label[1:]


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
            *_floors_of_nf4(record),
        ),
        tables=(table,),
    )


def _floors_of_nf4(record: SavingsRecord) -> tuple[str, ...]:
    """What the floors of 4-bit weights count, which older records do without."""
    costs: list[PhaseCost | BudgetRounds] = []
    for precision in record.precisions:
        if precision.quantization == "nf4":
            costs += precision.phases or ()
            costs += precision.throughput if isinstance(precision.throughput, tuple) else ()
    floors = [cost for cost in costs if not isinstance(cost.floor_seconds, NotMeasured)]
    if not floors:
        return ()
    if any(cost.unpacked_parameters is None for cost in floors):
        return (
            "The floors of NF4 in this record count packed weights alone. For many rows or tokens "
            "bitsandbytes unpacks weights before it multiplies, so these floors lie below what "
            "this representation leaves possible.",
        )
    return (
        "The floors of NF4 count the bytes of what bitsandbytes unpacks on this device before it "
        "multiplies: read packed, written and read again. Kernels of its own that read packed "
        "weights, as it has for few rows, are counted as that.",
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
            "no interval and are of medians, those of gists of paired rounds: of times, the two "
            "steps multiply to the whole up to that difference.",
        ),
        tables=(values, steps, whose),
    )


def _apart_cells(found: Apart) -> list[Figure]:
    steps = (found.gists[0], found.nf4[1], found.nf4[0], found.gists[1], found.both)
    return [
        absent(each.not_measured)
        if isinstance(each, NotMeasured)
        else Figure(
            value=each.value, text=f"{each.value:.4g}x", badge="INVALID" if each.broken else ""
        )
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
