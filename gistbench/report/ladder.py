"""What many tasks, lengths and rival arms add to a scorecard, as records."""

from __future__ import annotations

from typing import Literal

from gistbench.records import Record
from gistbench.report.paired import PairedVerdict
from gistbench.report.shown import Figure, MetricTable


class TaskStatus(Record):
    """Whether one task at one length can tell arms apart.

    Attributes:
        label: The task's name, with its length where it ran at several.
        discriminative: Whether `full-tuned` is above the chance floor; None if that is not known.
        text: The reason, as a sentence.
    """

    label: str
    task: str
    context_tokens: int
    chance_floor: float
    discriminative: bool | None
    text: str


class PairedRow(Record):
    """Two arms on the same prompts of one task.

    Attributes:
        p_value: Of McNemar's exact test.
        adjusted_p: The same after Holm's adjustment over the rows of these two arms.
        verdict: What is said of the first arm; `verdict_text` adds what would decide. "both guess"
            takes the place of equivalent and inconclusive where neither arm is above the task's
            chance floor: there is nothing that they could be equal in.
        counts: Whether the task counts in a summary.
        judged: Whether it ran at the length at which criteria are judged; of rivals, a page shows
            no others.
    """

    task: str
    first: str
    second: str
    both: int
    only_first: int
    only_second: int
    neither: int
    difference: Figure
    p_text: str
    p_value: float
    unpaired: int
    adjusted_p: float | None = None
    verdict: PairedVerdict | Literal["both guess"] | None = None
    verdict_text: str = ""
    counts: bool = True
    judged: bool = True


class PairSummary(Record):
    """Two arms over all tasks. `main` pairs stand open on the page, the others behind a click."""

    first: str
    second: str
    main: bool
    text: str


class BitsPoint(Record):
    """What the gists gave back on one task at one length.

    Attributes:
        ratio: Context tokens over gist tokens.
        answer_bits: Entropy of one answer.
        recalled: Share of answers that were exactly right.
        recovered: Bits recalled exactly, per gist token.
        capacity: Bits of the gists' keys and values, per gist token.
    """

    label: str
    task: str
    context_tokens: int
    ratio: Figure
    answer_bits: Figure
    recalled: Figure
    recovered: Figure
    capacity: Figure


class TradeoffPoint(Record):
    """One arm: what it keeps, and what it gets right for that. `rates` follow `Tradeoff.panels`."""

    arm: str
    family: str
    sees_question: bool
    cache_bytes: float
    rates: tuple[Figure, ...]


class Tradeoff(Record):
    """Accuracy against the bytes that are kept for a context; the first panel is the main one."""

    panels: tuple[str, ...]
    caption: str
    points: tuple[TradeoffPoint, ...]
    table: MetricTable
