"""Any two arms prompt by prompt, on every task that both answered, with a verdict for each.

Gist is compared with every arm that is no control, and `full-tuned` with `full`. The rows of two
arms make one family: their p values are adjusted together (Holm), so that another arm in the run
changes nothing for these two.
"""

from __future__ import annotations

from collections.abc import Sequence

from gistbench.report.discrimination import task_status
from gistbench.report.evidence import FULL, GIST, TUNED, Evidence
from gistbench.report.ladder import PairedRow, PairSummary
from gistbench.report.sections.columns import FEW_TASKS, compared_arms, main_arms
from gistbench.report.sections.figures import absent
from gistbench.report.sections.pairings import Pairing, judge_family, tally, verdict_figure
from gistbench.report.sections.tables import NOT_DISCRIMINATIVE, TableRow, metric_table
from gistbench.report.shown import Figure, MetricTable
from gistbench.report.statistics import paired_difference


def compared_pairs(evidence: Evidence) -> tuple[tuple[str, str], ...]:
    """Which arms are set against each other, first minus second, the main pairs first."""
    rivals = [arm for arm in compared_arms(evidence) if arm != GIST]
    pairs = [(GIST, rival) for rival in sorted(rivals, key=lambda arm: arm not in (FULL, TUNED))]
    pairs.insert(2, (TUNED, FULL))
    return tuple(pairs)


def main_pairs(evidence: Evidence) -> tuple[tuple[str, str], ...]:
    """Those of them that are shown without a click."""
    main = {GIST, FULL, TUNED} | (set(main_arms(evidence)) if _few(evidence) else set())
    return tuple(pair for pair in compared_pairs(evidence) if set(pair) <= main)


def comparisons(evidence: Evidence) -> tuple[tuple[PairedRow, ...], tuple[PairSummary, ...]]:
    """Rows and summaries of every pair with a prompt in common, in the same order."""
    all_rows: list[PairedRow] = []
    summaries = []
    main = main_pairs(evidence)
    for first, second in compared_pairs(evidence):
        rows = paired_rows(evidence, first, second)
        if rows:
            all_rows += rows
            summaries.append(
                PairSummary(
                    first=first,
                    second=second,
                    main=(first, second) in main,
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
        return verdict_figure(row)

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
    found = []
    for task in evidence.run.tasks:
        one, two = (
            {s.prompt_sha256: s.scores["exact_match"] == 1 for s in evidence.samples(arm, task)}
            for arm in (first, second)
        )
        if one.keys() & two.keys():
            found.append(
                Pairing(
                    task=evidence.label(task),
                    paired=paired_difference(one, two),
                    unpaired=len(one.keys() ^ two.keys()),
                    chance_floor=task.chance_floor,
                    counts=task_status(evidence, task).discriminative is not False,
                    judged=task.context_tokens == evidence.judged_tokens,
                )
            )
    return judge_family(first, second, found)


def headline(summaries: Sequence[PairSummary], evidence: Evidence) -> tuple[str, ...]:
    """How gists fared against the even comparison, where there are enough tasks for a summary."""
    if len(evidence.run.tasks) <= FEW_TASKS:
        return ()
    wanted = (GIST, TUNED)
    return tuple(f"{one.text}." for one in summaries if (one.first, one.second) == wanted)


def _few(evidence: Evidence) -> bool:
    return len(main_arms(evidence)) == len(evidence.arm_names)


def _summary(rows: tuple[PairedRow, ...], evidence: Evidence) -> str:
    counted = sum(row.counts for row in rows)
    left_out = len(rows) - counted
    lengths = {task.context_tokens for task in evidence.run.tasks}
    tasks = f"{counted} task{'' if counted == 1 else 's'}"
    if len(lengths) > 1:
        tasks = f"{counted} pairs of task and length"
    said = tally(rows) or "nothing to say"
    text = f"{rows[0].first} against {rows[0].second} on {tasks}: {said}"
    if left_out:
        text += f"; {left_out} not discriminative and not counted"
    return text
