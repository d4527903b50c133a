"""How each run stands by itself: its title, its score, its criteria, its checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gistbench.report.card import SEVERITY, Verdict
from gistbench.report.compare.differing import HASH_DIGITS, devices
from gistbench.report.compare.records import RunCheck, RunTitle
from gistbench.report.compare.sides import Side
from gistbench.report.sections.figures import absent
from gistbench.report.sections.tables import TableRow, metric_table
from gistbench.report.shown import Figure, Line, MetricTable
from gistbench.report.verdicts import score


def run_titles(sides: Sequence[Side]) -> tuple[RunTitle, ...]:
    """A line for each run."""
    return tuple(
        RunTitle(
            label=side.label,
            folder=str(side.folder),
            reference=number == 0,
            created=side.evidence.run.created,
            about=_about(side),
        )
        for number, side in enumerate(sides)
    )


def _about(side: Side) -> tuple[Line, ...]:
    run = side.evidence.run
    checkpoint, where = run.checkpoint, run.provenance
    commit = where.git_commit[:HASH_DIGITS] if where.git_commit else "unknown"
    ratio = compression(side)
    rows = {
        "Base": f"{run.base.name}, {run.base.dtype}"
        + ("" if run.base.quantization == "none" else f", {run.base.quantization}"),
        "Checkpoint": f"{checkpoint.name}, {checkpoint.num_gists} gists"
        if checkpoint
        else "no gist checkpoint",
        "Ratio": ratio.text if ratio.not_measured is None else "not measured",
        "Device": ", ".join(sorted(devices(side))),
        "Commit": f"{commit}, with uncommitted changes" if where.git_dirty else commit,
        "Created": run.created,
    }
    return tuple(Line(label=label, text=text) for label, text in rows.items())


def compression(side: Side) -> Figure:
    """The run's compression ratio, if it was measured."""
    return _criterion_figure(next((v for v in side.verdicts if v.id == "compression_ratio"), None))


def _criterion_figure(verdict: Verdict | None) -> Figure:
    if verdict is None or verdict.value is None:
        return absent(verdict.reason if verdict else "no such criterion")
    return Figure(value=verdict.value, text=verdict.value_text, detail=verdict.interval_text)


def standing_table(sides: Sequence[Side]) -> MetricTable:
    """Score and criteria side by side."""
    criteria = sides[0].verdicts
    rows: list[TableRow] = []
    for number, criterion in enumerate(criteria):
        cells = [_verdict_cell(side.verdicts[number]) for side in sides]
        rows.append((criterion.title, cells, f"target: {criterion.target}"))
    scores = [score(side.verdicts) for side in sides]
    points = [
        Figure(value=found.earned, text=found.text, detail=found.measurable) for found in scores
    ]
    return metric_table(
        "Each run judged by itself, as in its scorecard",
        [side.label for side in sides],
        [("Score", [("points", points, "")]), ("Criteria", rows)],
    )


def _verdict_cell(verdict: Verdict) -> Figure:
    """A criterion's outcome with its value; where it has none, the reason."""
    shown = f"{verdict.value_text}; {verdict.interval_text}" if verdict.interval_text else ""
    return Figure(
        value=verdict.value,
        low=verdict.low,
        high=verdict.high,
        n=verdict.n,
        text=verdict.outcome_text,
        badge=verdict.outcome,
        detail=shown or verdict.reason,
    )


def run_checks(sides: Sequence[Side]) -> tuple[RunCheck, ...]:
    """Every check that is not clean, the worst first."""
    found = [
        RunCheck(run=side.label, check=check)
        for side in sides
        for check in side.checks
        if check.status != "OK"
    ]
    return tuple(sorted(found, key=lambda one: SEVERITY.index(one.check.status)))


def invalid(sides: Sequence[Side]) -> tuple[str, ...]:
    """Leaks: what no reader may miss."""
    return tuple(f"{side.label}: {text}" for side in sides for text in side.leaks)


def notes(sides: Sequence[Side]) -> tuple[str, ...]:
    """What a reader must know before believing a difference."""
    runs = [side.evidence.run for side in sides]
    found = []
    trained = {run.checkpoint.sha256 for run in runs if run.checkpoint}
    if len(trained) > 1:
        found.append(
            "Other checkpoints: a verdict is about these weights. Each comes from one training, so "
            "it says less about the recipes."
        )
    on: Mapping[str, str] = {
        side.label: ", ".join(side.evidence.run.checkpoint.trained_on) or "nothing named"
        for side in sides
        if side.evidence.run.checkpoint
    }
    if len(set(on.values())) > 1:
        words = "; ".join(f"{label} on {what}" for label, what in on.items())
        found.append(f"The checkpoints were trained on other tasks: {words}.")
    if len({run.base.fingerprint for run in runs}) > 1:
        found.append(
            "Other base weights: what differs may be the base model's doing and not the gists'."
        )
    if len({(run.base.dtype, run.base.quantization) for run in runs}) > 1:
        found.append(
            "Other precision: what differs, times and memory too, may be the precision's doing."
        )
    if len({devices(side) for side in sides}) > 1:
        found.append("Other devices: times and memory stand side by side and are not divided.")
    weights = dict.fromkeys(run.base.weights_note for run in runs if run.base.weights_note)
    found += [f"{note[:1].upper()}{note[1:].removesuffix('.')}." for note in weights]
    return tuple(found)
