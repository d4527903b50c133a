"""Any two arms prompt by prompt, on every task that both answered, with a verdict for each.

Gist is compared with every arm that is no control, and `full-tuned` with `full`. The rows of two
arms make one family: their p values are adjusted together (Holm), so that another arm in the run
changes nothing for these two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gistbench.records import TaskRecord
from gistbench.report.discrimination import task_status
from gistbench.report.evidence import FULL, GIST, TUNED, Evidence
from gistbench.report.ladder import PairedRow, PairSummary
from gistbench.report.paired import MARGIN, PairedComparison, PairedVerdict, judge_paired
from gistbench.report.rates import is_discriminative
from gistbench.report.sections.columns import FEW_TASKS, compared_arms, main_arms
from gistbench.report.sections.figures import absent
from gistbench.report.sections.tables import NOT_DISCRIMINATIVE, TableRow, metric_table
from gistbench.report.shown import Figure, MetricTable
from gistbench.report.statistics import PairedDifference, holm, paired_difference

BOTH_GUESS: Literal["both guess"] = "both guess"
VERDICTS: tuple[PairedVerdict | Literal["both guess"], ...] = (
    "better",
    "worse",
    "equivalent",
    "non-inferior",
    "inconclusive",
    BOTH_GUESS,
)


def compared_pairs(evidence: Evidence) -> tuple[tuple[str, str], ...]:
    """Which arms are set against each other, first minus second, the main pairs first."""
    rivals = [arm for arm in compared_arms(evidence) if arm != GIST]
    pairs = [(GIST, rival) for rival in sorted(rivals, key=lambda arm: arm not in (FULL, TUNED))]
    pairs.insert(2, (TUNED, FULL))
    return tuple(pairs)


def comparisons(evidence: Evidence) -> tuple[tuple[PairedRow, ...], tuple[PairSummary, ...]]:
    """Rows and summaries of every pair with a prompt in common, in the same order."""
    all_rows: list[PairedRow] = []
    summaries = []
    main = {GIST, FULL, TUNED} | (set(main_arms(evidence)) if _few(evidence) else set())
    for first, second in compared_pairs(evidence):
        rows = paired_rows(evidence, first, second)
        if rows:
            all_rows += rows
            summaries.append(
                PairSummary(
                    first=first,
                    second=second,
                    main={first, second} <= main,
                    text=_summary(rows, evidence),
                )
            )
    return tuple(all_rows), tuple(summaries)


def paired_matrix(
    rows: Sequence[PairedRow], pairs: Sequence[PairSummary], evidence: Evidence
) -> MetricTable | None:
    """The verdicts of the main pairs, a row for each task; None where a few tasks need none."""
    main = [pair for pair in pairs if pair.main]
    if len(evidence.run.tasks) <= FEW_TASKS or not main:
        return None
    found = {(row.task, row.first, row.second): row for row in rows}

    def cell(task: str, pair: PairSummary) -> Figure:
        row = found.get((task, pair.first, pair.second))
        if row is None:
            return absent("no prompt that both arms answered")
        return row.difference.model_copy(
            update={
                "text": row.verdict,
                "badge": row.verdict,
                "detail": f"{row.difference.text}, "
                f"{row.difference.detail.removeprefix('Newcombe ')}",
            }
        )

    table: list[TableRow] = [
        (
            label,
            [cell(label, pair) for pair in main],
            "" if task_status(evidence, task).discriminative is not False else NOT_DISCRIMINATIVE,
        )
        for task in evidence.run.tasks
        for label in (evidence.label(task),)
    ]
    return metric_table(
        "Verdict on the first arm, difference in points with its 95 % interval",
        [f"{pair.first} against {pair.second}" for pair in main],
        [("Task", table)],
    )


def paired_rows(evidence: Evidence, first: str, second: str) -> tuple[PairedRow, ...]:
    """Two arms, prompt by prompt, on every task that both answered."""
    found: list[tuple[TaskRecord, PairedDifference, int]] = []
    for task in evidence.run.tasks:
        one, two = (
            {s.prompt_sha256: s.scores["exact_match"] == 1 for s in evidence.samples(arm, task)}
            for arm in (first, second)
        )
        if one.keys() & two.keys():
            unpaired = len(one.keys() ^ two.keys())
            found.append((task, paired_difference(one, two), unpaired))
    adjusted = holm([paired.p_value for _, paired, _ in found])
    rows = []
    for (task, paired, unpaired), p_value in zip(found, adjusted, strict=True):
        judged = judge_paired(paired, MARGIN, p_value)
        guess = judged.verdict not in ("better", "worse") and _both_guess(paired, task.chance_floor)
        gap = paired.difference
        rows.append(
            PairedRow(
                task=evidence.label(task),
                first=first,
                second=second,
                both=paired.both,
                only_first=paired.only_first,
                only_second=paired.only_second,
                neither=paired.neither,
                difference=Figure(
                    value=gap.value,
                    low=gap.low,
                    high=gap.high,
                    n=gap.n,
                    text=f"{100 * gap.value:+.1f} points",
                    detail=f"Newcombe {100 * gap.low:+.1f} to {100 * gap.high:+.1f}, n = {gap.n:,}",
                ),
                p_value=paired.p_value,
                p_text=_p_text("p", paired.p_value)
                + (f"; {_p_text('Holm', p_value)}" if len(found) > 1 else ""),
                unpaired=unpaired,
                adjusted_p=p_value,
                verdict=BOTH_GUESS if guess else judged.verdict,
                verdict_text="" if guess else _verdict_text(judged),
                judged=task.context_tokens == evidence.judged_tokens,
                counts=task_status(evidence, task).discriminative is not False,
            )
        )
    return tuple(rows)


def headline(summaries: Sequence[PairSummary], evidence: Evidence) -> tuple[str, ...]:
    """How gists fared against the even comparison, where there are enough tasks for a summary."""
    if len(evidence.run.tasks) <= FEW_TASKS:
        return ()
    wanted = (GIST, TUNED)
    return tuple(f"{one.text}." for one in summaries if (one.first, one.second) == wanted)


def _both_guess(paired: PairedDifference, chance_floor: float) -> bool:
    n = paired.difference.n
    sides = (paired.both + paired.only_first, paired.both + paired.only_second)
    return not any(is_discriminative(hits, n, chance_floor) for hits in sides)


def _few(evidence: Evidence) -> bool:
    return len(main_arms(evidence)) == len(evidence.arm_names)


def _p_text(name: str, p_value: float) -> str:
    return f"{name} < 0.0001" if p_value < 1e-4 else f"{name} = {p_value:.2g}"


def _verdict_text(judged: PairedComparison) -> str:
    if judged.n_needed is not None:
        return f"about {judged.n_needed:,} prompts would decide"
    if judged.verdict in ("better", "worse") and judged.within_margin:
        return f"by less than {100 * judged.margin:g} points"
    return ""


def _summary(rows: tuple[PairedRow, ...], evidence: Evidence) -> str:
    counted = [row.verdict for row in rows if row.counts]
    left_out = len(rows) - len(counted)
    counts = ", ".join(f"{counted.count(v)} {v}" for v in VERDICTS if v in counted)
    lengths = {task.context_tokens for task in evidence.run.tasks}
    tasks = f"{len(counted)} task{'' if len(counted) == 1 else 's'}"
    if len(lengths) > 1:
        tasks = f"{len(counted)} pairs of task and length"
    text = f"{rows[0].first} against {rows[0].second} on {tasks}: {counts or 'nothing to say'}"
    if left_out:
        text += f"; {left_out} not discriminative and not counted"
    return text
