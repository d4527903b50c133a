"""The lines of a history's charts: every arm's accuracy on a task, and every arm's costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gistbench.metrics import METRICS
from gistbench.records import NotMeasured, SteadyState
from gistbench.report.compare.differing import devices
from gistbench.report.compare.sides import Side
from gistbench.report.evidence import Cell
from gistbench.report.history.records import Trend, TrendLine, TrendPoint
from gistbench.report.sections.tables import COST_LABELS
from gistbench.report.shown import Figure

COSTS = ("cache_bytes", "steady_many", "compress_seconds", "first_token_seconds", "throughput")
MOST_PANELS = 5
SCORE = "score"

Rates = Mapping[tuple[str, Cell], Figure]
"""Arm and cell -> rate of one run."""
Costs = Mapping[tuple[str, str], tuple[Figure, str]]
"""Arm and cost -> figure of one run, and under what conditions it was measured."""


def accuracy_trends(
    arms: Sequence[str], labels: Mapping[Cell, str], runs: Sequence[Rates]
) -> tuple[Trend, ...]:
    """A panel for each of the first tasks."""
    return tuple(
        Trend(
            title=label,
            metric="exact_match",
            lines=tuple(
                TrendLine(
                    arm=arm,
                    points=tuple(
                        TrendPoint(run=number, figure=rates[arm, cell])
                        for number, rates in enumerate(runs)
                    ),
                )
                for arm in arms
            ),
        )
        for cell, label in list(labels.items())[:MOST_PANELS]
    )


def score_trend(scores: Sequence[Figure]) -> Trend:
    """The runs' points out of 100."""
    points = tuple(TrendPoint(run=number, figure=score) for number, score in enumerate(scores))
    return Trend(title=SCORE, metric=SCORE, lines=(TrendLine(arm=SCORE, points=points),))


def cost_trends(arms: Sequence[str], runs: Sequence[Costs]) -> tuple[Trend, ...]:
    """A panel for each cost that some run measured."""
    trends = []
    for cost in COSTS:
        lines = []
        for arm in arms:
            points = tuple(
                TrendPoint(run=number, figure=figure, conditions=where)
                for number, costs in enumerate(runs)
                for figure, where in (costs[arm, cost],)
                if figure.value is not None
            )
            if points:
                lines.append(TrendLine(arm=arm, points=points))
        if lines:
            metric = "torch_allocated_bytes" if cost == "steady_many" else cost
            trends.append(Trend(title=cost_label(cost), metric=metric, lines=tuple(lines)))
    return tuple(trends)


def cost_label(cost: str) -> str:
    """How a cost is called."""
    return COST_LABELS.get(cost) or METRICS[cost].label


def conditions(side: Side, arm: str, cost: str) -> str:
    """What a cost depends on besides the code: only figures with the same are joined."""
    record = side.evidence.arm(arm)
    if cost == "cache_bytes" or record is None:
        return ""  # bytes are counted, and the same everywhere
    where = side.evidence.run.provenance
    device = ", ".join(sorted(devices(side)))
    if where.device.startswith("cpu"):
        device += f" with {where.num_cpu_cores} cores"
    if cost == "steady_many":
        state: SteadyState | NotMeasured = record.steady_many
        held = 0 if isinstance(state, NotMeasured) else state.contexts_held
        return f"{device}, {held} contexts held"
    if cost == "throughput":
        rounds = record.throughput_rounds
        counts = set() if isinstance(rounds, NotMeasured) else {one.contexts for one in rounds}
        return f"{device}, {'/'.join(map(str, sorted(counts)))} contexts"
    return f"{device}, batches of {side.batch_sizes[arm]}"
