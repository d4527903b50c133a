"""A comparison of runs as a record: `compare.json`, and all that its pages and tables print."""

from __future__ import annotations

from typing import Literal

from gistbench.records import Record
from gistbench.report.card import Check
from gistbench.report.ladder import PairedRow
from gistbench.report.shown import Line, MetricTable


class RunTitle(Record):
    """One of the runs, in a line.

    Attributes:
        label: What it is called everywhere: its folder's name, made longer where two are alike.
        about: Base model, checkpoint, ratio, precision, date, device, commit.
    """

    label: str
    folder: str
    reference: bool
    created: str
    about: tuple[Line, ...]


class DifferingRow(Record):
    """One field that is not the same in all runs; `values` follow the runs."""

    label: str
    values: tuple[str, ...]


class DifferingGroup(Record):
    """Fields of one kind."""

    title: str
    rows: tuple[DifferingRow, ...]


class RunCheck(Record):
    """A check of one run that did not come out clean."""

    run: str
    check: Check


class Unpaired(Record):
    """A task on which two runs get no paired verdict, and why."""

    task: str
    reason: str


class RunPair(Record):
    """One arm of one run against the reference, on every task that both answered.

    Attributes:
        run: Label of the later run.
        arm: Its arm.
        reference_arm: The arm of the reference that it stands against, mostly the same.
        first, second: How the two sides are called in `rows`.
        main: Whether it stands open on the page, or behind a click.
        text: The verdicts in one line.
    """

    run: str
    arm: str
    reference_arm: str
    first: str
    second: str
    main: bool
    text: str
    rows: tuple[PairedRow, ...]
    unpaired: tuple[Unpaired, ...] = ()


class Flip(Record):
    """One prompt that one run answered right and the other wrong. All text is cut and visible."""

    sample_id: str
    expected: str
    before: str
    before_cut: str
    after: str
    after_cut: str


class FlipList(Record):
    """The prompts of one task that flipped in one direction.

    Attributes:
        kind: Right in the reference and wrong in the run, or the other way round.
        sample_ids: All of them, in the order of the samples.
        shown: The first ones.
    """

    task: str
    kind: Literal["lost", "gained"]
    caption: str
    sample_ids: tuple[str, ...]
    shown: tuple[Flip, ...]


class FlipGroup(Record):
    """All flips of one arm of one run; no lists where no prompt flipped."""

    run: str
    arm: str
    first: str
    second: str
    heading: str
    lists: tuple[FlipList, ...]


class Comparison(Record):
    """Several runs side by side.

    Attributes:
        invalid: Leaks, one sentence each, with the run's label.
        headlines: What the paired tests say of the main arms.
        alike: What all runs share, in a sentence.
        controls: Rates of the control arms, which get no verdicts; None where no run has any.
        rivals: Rates of arms beyond the main ones, a table for each.
    """

    schema_version: Literal[1] = 1
    title: str
    command: str
    runs: tuple[RunTitle, ...]
    invalid: tuple[str, ...]
    headlines: tuple[str, ...]
    notes: tuple[str, ...]
    alike: str
    differing: tuple[DifferingGroup, ...]
    standing: MetricTable
    checks: tuple[RunCheck, ...]
    accuracy: tuple[MetricTable, ...]
    rivals: tuple[MetricTable, ...]
    controls: MetricTable | None
    pairs: tuple[RunPair, ...]
    costs: tuple[MetricTable, ...]
    rival_costs: tuple[MetricTable, ...]
    flips: tuple[FlipGroup, ...]
