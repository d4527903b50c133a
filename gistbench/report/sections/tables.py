"""Arms side by side: a column each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gistbench.metrics import METRICS
from gistbench.records import ArmRecord, NotMeasured, PhaseRecord
from gistbench.report.card import ArmFigures
from gistbench.report.discrimination import task_statuses
from gistbench.report.evidence import Evidence
from gistbench.report.sections.columns import FEW_TASKS, main_arms, rival_families
from gistbench.report.sections.figures import ABSENCE, COST_METRICS, PHASE_SOURCES, absent
from gistbench.report.shown import Figure, MetricTable, Row, RowGroup

CAPTION = "Rates with 95 % intervals; times as medians over samples"
NOT_DISCRIMINATIVE = "not discriminative"
LOOSER = ("contains", "digit_accuracy")

TableRow = tuple[str, Sequence[Figure], str]
"""Label, figures, note."""
Group = tuple[str, Sequence[TableRow]]
"""Title, rows."""

COST_LABELS = {
    "contexts_in_budget": "contexts that fit beside the weights in 24 GiB",
    "throughput": "throughput, contexts together",
    "steady_one": "allocated by torch, one context held",
    "steady_many": "allocated by torch, many contexts held",
}


def comparison_tables(
    arms: Sequence[ArmFigures], evidence: Evidence
) -> tuple[MetricTable, tuple[MetricTable, ...]]:
    """Accuracy by task, then cost per context, speed and memory.

    Returns:
        The main table, and one for each family of rivals where they are too many to stand in it.
    """
    main = _comparison(arms, main_arms(evidence), evidence, CAPTION)
    return main, tuple(
        _comparison(arms, names, evidence, f"{family}: {CAPTION.lower()}")
        for family, names in rival_families(evidence).items()
    )


def looser_table(arms: Sequence[ArmFigures], evidence: Evidence) -> MetricTable | None:
    """The scores that decide nothing, where many tasks leave them no room in the main table."""
    if len(evidence.run.tasks) <= FEW_TASKS:
        return None
    shown = [arm for arm in arms if arm.name in main_arms(evidence)]
    labels = [evidence.label(task) for task in evidence.run.tasks]
    groups = [
        (METRICS[name].label, [(label, _cells(shown, label, name), "") for label in labels])
        for name in LOOSER
    ]
    return metric_table("Looser scores, which decide nothing", [a.name for a in shown], groups)


def _comparison(
    arms: Sequence[ArmFigures], names: Sequence[str], evidence: Evidence, caption: str
) -> MetricTable:
    by_name = {arm.name: arm for arm in arms}
    shown = [by_name[name] for name in names]
    groups = [*_accuracy_groups(shown, evidence)]
    for title, metrics in (
        ("What a context costs", COST_METRICS[:3]),
        ("Speed", COST_METRICS[3:7]),
        ("Memory in the steady state", COST_METRICS[7:]),
    ):
        rows = []
        for name in metrics:
            label = COST_LABELS.get(name) or METRICS[name].label
            rows.append((label, [arm.cost[name] for arm in shown], ""))
        groups.append((title, rows))
    return metric_table(caption, [arm.name for arm in shown], groups)


def _accuracy_groups(arms: Sequence[ArmFigures], evidence: Evidence) -> Iterator[Group]:
    """With few tasks a group for each; with many, a row for each and a group for each length."""
    tasks = evidence.run.tasks
    notes = {
        status.label: NOT_DISCRIMINATIVE if status.discriminative is False else ""
        for status in task_statuses(evidence)
    }
    if len(tasks) <= FEW_TASKS:
        for label in map(evidence.label, tasks):
            names = ("exact_match", *LOOSER)
            rows: list[TableRow] = [
                (
                    METRICS[name].label,
                    _cells(arms, label, name),
                    notes[label] if name == "exact_match" else "",
                )
                for name in names
            ]
            yield f"Accuracy on {label}", [*rows, *_absence_rows(arms, label)]
        return
    lengths = list(dict.fromkeys(task.context_tokens for task in tasks))
    for tokens in lengths:
        labels = {t.name: evidence.label(t) for t in tasks if t.context_tokens == tokens}
        title = "Strict exact match" + (f" at {tokens:,} tokens" if len(lengths) > 1 else "")
        yield (
            title,
            [(name, _cells(arms, x, "exact_match"), notes[x]) for name, x in labels.items()],
        )
    for label in map(evidence.label, tasks):
        if absence := _absence_rows(arms, label):
            yield f"Whether a key is hidden at all, {label}", absence


def _absence_rows(arms: Sequence[ArmFigures], label: str) -> list[TableRow]:
    """Balanced accuracy and its rates, for a task where some documents hold no answer."""
    if not any(name in arm.accuracy[label] for arm in arms for name in ABSENCE):
        return []
    return [(METRICS[name].label, _cells(arms, label, name), "") for name in ABSENCE]


def _cells(arms: Sequence[ArmFigures], label: str, name: str) -> list[Figure]:
    """One score of every arm; an arm that did not answer at all says why."""

    def cell(scores: Mapping[str, Figure]) -> Figure:
        silent = scores["exact_match"].not_measured is not None
        return scores.get(name) or (scores["exact_match"] if silent else absent("not scored"))

    return [cell(arm.accuracy[label]) for arm in arms]


def phase_table(arms: Sequence[ArmRecord]) -> MetricTable:
    """Peak memory of every phase and source that at least one arm measured."""
    groups = []
    for source, field in PHASE_SOURCES.items():
        rows = []
        for phase in ("load", "compress", "steady", "decode"):
            cells = [_peak(arm, phase, field) for arm in arms]
            if any(cell.not_measured is None for cell in cells):
                rows.append((phase, cells, ""))
        if rows:
            groups.append((f"{METRICS[source].label}, peak of the phase", rows))
    return metric_table("Peak memory by phase", [arm.name for arm in arms], groups)


def _peak(arm: ArmRecord, phase: str, field: str) -> Figure:
    found: PhaseRecord | None = next((p for p in arm.phases if p.phase == phase), None)
    if found is None:
        return absent(f"arm without a phase named {phase}")
    peak: int | NotMeasured = getattr(found, field)
    if isinstance(peak, NotMeasured):
        return absent(peak.not_measured)
    return Figure(value=peak, n=1, text=METRICS["resident_bytes"].format(peak))


def metric_table(caption: str, columns: Sequence[str], groups: Sequence[Group]) -> MetricTable:
    """A table whose missing figures point to their reasons below it."""
    footnotes: list[str] = []

    def noted(figure: Figure) -> Figure:
        if figure.not_measured is None:
            return figure
        word = "Not applicable" if figure.not_applicable else "Not measured"
        note = f"{word}: {figure.not_measured}"
        if note not in footnotes:
            footnotes.append(note)
        return figure.model_copy(update={"footnote": footnotes.index(note) + 1})

    return MetricTable(
        caption=caption,
        columns=tuple(columns),
        groups=tuple(
            RowGroup(
                title=title,
                rows=tuple(
                    Row(label=label, cells=tuple(noted(cell) for cell in cells), note=note)
                    for label, cells, note in rows
                ),
            )
            for title, rows in groups
        ),
        footnotes=tuple(footnotes),
    )
