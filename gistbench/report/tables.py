"""Arms side by side: a column each, and gist against full prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence

from gistbench.metrics import METRICS
from gistbench.records import ArmRecord, NotMeasured, PhaseRecord
from gistbench.report.card import ArmFigures, Figure, MetricTable, PairedRow, Row, RowGroup
from gistbench.report.evidence import Evidence
from gistbench.report.figures import COST_METRICS, PHASE_SOURCES, absent
from gistbench.report.statistics import paired_difference

COST_LABELS = {
    "throughput": "throughput, contexts together",
    "steady_one": "allocated by torch, one context held",
    "steady_many": "allocated by torch, many contexts held",
}


def comparison_table(arms: Sequence[ArmFigures], tasks: Sequence[str]) -> MetricTable:
    """Arms as columns; accuracy by task, then cost per context, speed and memory."""
    groups = [
        (
            f"Accuracy on {task}",
            [
                (METRICS[name].label, [arm.accuracy[task][name] for arm in arms])
                for name in ("exact_match", "contains", "digit_accuracy")
            ],
        )
        for task in tasks
    ]
    for title, names in (
        ("What a context costs", COST_METRICS[:2]),
        ("Speed", COST_METRICS[2:6]),
        ("Memory in the steady state", COST_METRICS[6:]),
    ):
        rows = []
        for name in names:
            label = COST_LABELS.get(name) or METRICS[name].label
            rows.append((label, [arm.cost[name] for arm in arms]))
        groups.append((title, rows))
    return _table(
        "Rates with 95 % intervals; times as medians over samples",
        [arm.name for arm in arms],
        groups,
    )


def phase_table(arms: Sequence[ArmRecord]) -> MetricTable:
    """Peak memory of every phase and source that at least one arm measured."""
    groups = []
    for source, field in PHASE_SOURCES.items():
        rows = []
        for phase in ("load", "compress", "steady", "decode"):
            cells = [_peak(arm, phase, field) for arm in arms]
            if any(cell.not_measured is None for cell in cells):
                rows.append((phase, cells))
        if rows:
            groups.append((f"{METRICS[source].label}, peak of the phase", rows))
    return _table("Peak memory by phase", [arm.name for arm in arms], groups)


def _peak(arm: ArmRecord, phase: str, field: str) -> Figure:
    found: PhaseRecord | None = next((p for p in arm.phases if p.phase == phase), None)
    if found is None:
        return absent(f"arm without a phase named {phase}")
    peak: int | NotMeasured = getattr(found, field)
    if isinstance(peak, NotMeasured):
        return absent(peak.not_measured)
    return Figure(value=peak, n=1, text=METRICS["resident_bytes"].format(peak))


def _table(
    caption: str,
    columns: Sequence[str],
    groups: Sequence[tuple[str, Sequence[tuple[str, Sequence[Figure]]]]],
) -> MetricTable:
    """A table whose missing figures point to their reasons below it."""
    footnotes: list[str] = []

    def noted(figure: Figure) -> Figure:
        if figure.not_measured is None:
            return figure
        if figure.not_measured not in footnotes:
            footnotes.append(figure.not_measured)
        number = footnotes.index(figure.not_measured) + 1
        return figure.model_copy(update={"footnote": number})

    return MetricTable(
        caption=caption,
        columns=tuple(columns),
        groups=tuple(
            RowGroup(
                title=title,
                rows=tuple(
                    Row(label=label, cells=tuple(noted(cell) for cell in cells))
                    for label, cells in rows
                ),
            )
            for title, rows in groups
        ),
        footnotes=tuple(footnotes),
    )


def paired_rows(evidence: Evidence, first: str = "gist", second: str = "full") -> list[PairedRow]:
    """Gist against full context, prompt by prompt, for every task both answered."""
    rows = []
    for task in evidence.run.tasks:
        sides = [
            {s.prompt_sha256: s.scores["exact_match"] == 1 for s in evidence.samples(arm, task)}
            for arm in (first, second)
        ]
        common = sides[0].keys() & sides[1].keys()
        if not common:
            continue
        found = paired_difference(sides[0], sides[1])
        gap = found.difference
        rows.append(
            PairedRow(
                task=evidence.label(task),
                first=first,
                second=second,
                both=found.both,
                only_first=found.only_first,
                only_second=found.only_second,
                neither=found.neither,
                difference=Figure(
                    value=gap.value,
                    low=gap.low,
                    high=gap.high,
                    n=gap.n,
                    text=f"{100 * gap.value:+.1f} points",
                    detail=f"Newcombe {100 * gap.low:+.1f} to {100 * gap.high:+.1f}, n = {gap.n:,}",
                ),
                p_value=found.p_value,
                p_text="p < 0.0001" if found.p_value < 1e-4 else f"p = {found.p_value:.2g}",
                unpaired=len(sides[0].keys() ^ sides[1].keys()),
            )
        )
    return rows
