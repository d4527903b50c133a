"""Two sides on the same prompts, judged together task by task, and put into words.

A side is an arm of one run. Both may be arms of the same run (a scorecard), or one arm of two runs
(a comparison of runs). The tasks of two sides are one family: their p values are adjusted together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gistbench.report.ladder import PairedRow
from gistbench.report.paired import MARGIN, PairedComparison, PairedVerdict, judge_paired
from gistbench.report.rates import is_discriminative
from gistbench.report.shown import Figure
from gistbench.report.statistics import Estimate, PairedDifference, holm

BOTH_GUESS: Literal["both guess"] = "both guess"
VERDICTS: tuple[PairedVerdict | Literal["both guess"], ...] = (
    "better",
    "worse",
    "equivalent",
    "non-inferior",
    "inconclusive",
    BOTH_GUESS,
)


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two sides on the prompts of one task, not judged yet.

    Attributes:
        task: How the task is called.
        unpaired: Prompts that only one side answered.
        counts: Whether the task counts in a summary.
        judged: Whether it ran at the length at which criteria are judged.
    """

    task: str
    paired: PairedDifference
    unpaired: int
    chance_floor: float
    counts: bool = True
    judged: bool = True


def judge_family(first: str, second: str, pairings: Sequence[Pairing]) -> tuple[PairedRow, ...]:
    """Judge the first side against the second on every task, p values adjusted over them (Holm)."""
    adjusted = holm([found.paired.p_value for found in pairings])
    rows = []
    for found, p_value in zip(pairings, adjusted, strict=True):
        paired = found.paired
        judged = judge_paired(paired, MARGIN, p_value)
        guess = judged.verdict not in ("better", "worse") and _both_guess(
            paired, found.chance_floor
        )
        rows.append(
            PairedRow(
                task=found.task,
                first=first,
                second=second,
                both=paired.both,
                only_first=paired.only_first,
                only_second=paired.only_second,
                neither=paired.neither,
                difference=gap_figure(paired.difference),
                p_value=paired.p_value,
                p_text=_p_text("p", paired.p_value)
                + (f"; {_p_text('Holm', p_value)}" if len(pairings) > 1 else ""),
                unpaired=found.unpaired,
                adjusted_p=p_value,
                verdict=BOTH_GUESS if guess else judged.verdict,
                verdict_text="" if guess else _verdict_text(judged),
                judged=found.judged,
                counts=found.counts,
            )
        )
    return tuple(rows)


def gap_figure(gap: Estimate) -> Figure:
    """A paired difference of two rates, in points."""
    return Figure(
        value=gap.value,
        low=gap.low,
        high=gap.high,
        n=gap.n,
        text=f"{100 * gap.value:+.1f} points",
        detail=f"Newcombe {100 * gap.low:+.1f} to {100 * gap.high:+.1f}, n = {gap.n:,}",
    )


def verdict_figure(row: PairedRow) -> Figure:
    """A verdict as a cell of a table, with the difference that it rests on."""
    gap = row.difference
    return gap.model_copy(
        update={
            "text": row.verdict,
            "badge": row.verdict,
            "detail": f"{gap.text}, {gap.detail.removeprefix('Newcombe ')}",
        }
    )


def tally(rows: Sequence[PairedRow]) -> str:
    """How many verdicts of each kind, over the tasks that count."""
    counted = [row.verdict for row in rows if row.counts]
    return ", ".join(f"{counted.count(v)} {v}" for v in VERDICTS if v in counted)


def _both_guess(paired: PairedDifference, chance_floor: float) -> bool:
    n = paired.difference.n
    sides = (paired.both + paired.only_first, paired.both + paired.only_second)
    return not any(is_discriminative(hits, n, chance_floor) for hits in sides)


def _p_text(name: str, p_value: float) -> str:
    return f"{name} < 0.0001" if p_value < 1e-4 else f"{name} = {p_value:.2g}"


def _verdict_text(judged: PairedComparison) -> str:
    if judged.n_needed is not None:
        return f"about {judged.n_needed:,} prompts would decide"
    if judged.verdict in ("better", "worse") and judged.within_margin:
        return f"by less than {100 * judged.margin:g} points"
    return ""
