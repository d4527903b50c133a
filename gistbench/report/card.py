"""The scorecard as a record: every figure of the page, nothing that the page must compute.

`scorecard.json` is this record. The HTML page, the Markdown file and the terminal table are
rendered from it alone, so they cannot disagree, and a published one can be shown beside a new run.
"""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from gistbench.records import Phase, Record
from gistbench.report.answers import SamplesShown
from gistbench.report.ladder import (
    BitsPoint,
    PairedRow,
    PairSummary,
    TaskStatus,
    Tradeoff,
)
from gistbench.report.latency import Latency
from gistbench.report.needle import DepthTable, NeedleMaps
from gistbench.report.shown import Figure, Line, MetricTable

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE", "NOT_MEASURED"]
CheckStatus = Literal["OK", "WARNING", "MISSING", "INVALID", "INVALID-LEAK"]

SEVERITY: tuple[CheckStatus, ...] = ("INVALID-LEAK", "INVALID", "MISSING", "WARNING", "OK")
"""The worst first."""


class Verdict(Record):
    """How one criterion was decided.

    Attributes:
        low, high: The interval that was compared with the target.
        n_needed: For INCONCLUSIVE, the n that would decide; None if none would.
        grade: The best grade that the whole interval meets.
        earned: Points out of `weight`.
        beside: What is shown with the verdict and never decides it.
    """

    id: str
    title: str
    metric: str
    target: str
    seed_claim: str
    weight: float
    outcome: Outcome
    outcome_text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    n_needed: int | None = None
    value_text: str
    interval_text: str = ""
    reason: str
    grade: str | None = None
    earned: float
    arithmetic: str
    beside: tuple[Line, ...] = ()
    published: str | None = None


class Score(Record):
    """Points and how they add up."""

    earned: float
    out_of: float
    text: str
    arithmetic: str
    decided: int
    num_criteria: int
    measurable: str


class Check(Record):
    """One question about whether the run can be believed.

    Attributes:
        task: The task it concerns; None for the run as a whole, or where it concerns several.
        blocks: Whether the gist arm's accuracy on that task cannot pass because of it.
        details: What stands behind a finding that is too long for a line.
        details_title: What these are, in a few words.
    """

    id: str
    title: str
    status: CheckStatus
    text: str
    task: str | None = None
    blocks: bool = False
    details: tuple[Line, ...] = ()
    details_title: str = "all of them"


class ArmFigures(Record):
    """One arm: accuracy by task, and cost by metric name (see `gistbench.metrics`).

    One that is not `main` stands with the other budgets of its family, behind a click.
    """

    name: str
    description: str
    weights: str
    trained_on: str
    complete: bool
    accuracy: dict[str, dict[str, Figure]]
    cost: dict[str, Figure]
    main: bool = True


class MemoryLayer(Record):
    """One source of memory readings over time, in bytes, thinned with peaks kept."""

    name: str
    label: str
    values: tuple[int | None, ...]


class PhaseSpan(Record):
    """A stretch of time in one phase."""

    phase: Phase
    start: float
    end: float


class MemoryTrack(Record):
    """Memory of one arm's process over time."""

    arm: str
    seconds: tuple[float, ...]
    layers: tuple[MemoryLayer, ...]
    phases: tuple[PhaseSpan, ...]
    summary: str


class JudgedRow(Record):
    """Exact match against a judge's verdicts: who called how many answers right."""

    label: str
    both_right: int
    only_exact: int
    only_judge: int
    both_wrong: int
    no_verdict: int
    agreement: Figure


class Judged(Record):
    """What one judge model said. It decides nothing."""

    model: str
    rows: tuple[JudgedRow, ...]
    score: str
    sentence: str


class Published(Record):
    """Another scorecard's main figures."""

    title: str
    label: str
    score: str
    comparability: str
    lines: tuple[Line, ...]


class Scorecard(Record):
    """The whole scorecard of one run.

    Sections that another gistbench knew are passed over, so that a published card can still be
    shown beside a new run.
    """

    model_config = ConfigDict(extra="ignore")

    schema_version: Literal[1] = 1
    title: str
    model: str
    checkpoint: str
    ratio: str
    created: str
    base_fingerprint: str
    checkpoint_sha256: str | None
    prompts: dict[str, str]
    weights_note: str
    fairness: tuple[str, ...]
    score: Score
    invalid: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    checks: tuple[Check, ...]
    arms: tuple[ArmFigures, ...]
    comparison: MetricTable
    paired: tuple[PairedRow, ...]
    pairs: tuple[PairSummary, ...] = ()
    paired_matrix: MetricTable | None = None
    task_status: tuple[TaskStatus, ...] = ()
    discrimination: str = ""
    rivals: tuple[MetricTable, ...] = ()
    looser: MetricTable | None = None
    effective_length: tuple[MetricTable, ...] = ()
    bits: tuple[BitsPoint, ...] = ()
    bits_notes: tuple[str, ...] = ()
    tradeoff: Tradeoff | None = None
    depth: tuple[DepthTable, ...]
    needle_maps: tuple[NeedleMaps, ...] = ()
    latency: Latency | None = None
    memory: tuple[MemoryTrack, ...]
    memory_notes: tuple[str, ...]
    memory_phases: MetricTable
    only_main_arms: str = ""
    samples: SamplesShown | None = None
    tasks: tuple[Line, ...]
    environment: tuple[Line, ...]
    notes: tuple[str, ...]
    command: str
    published: Published | None = None
    judged: tuple[Judged, ...] = ()
