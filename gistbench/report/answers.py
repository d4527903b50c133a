"""The samples of a scorecard as records. All text is already cut and made visible."""

from __future__ import annotations

from gistbench.records import Record
from gistbench.report.shown import Line


class AnswerShown(Record):
    """What one arm answered to one prompt.

    Attributes:
        right: By strict exact match.
        control: Whether the arm is one that should know nothing.
        differ: How the scorers disagree, as the end of a sentence; empty where they agree.
    """

    arm: str
    right: bool
    control: bool = False
    differ: str = ""
    output: str
    output_cut: str = ""


class PromptShown(Record):
    """One prompt with the answers of the arms.

    Attributes:
        depth: Where the needle stands, in words; empty without one.
        part: Which of `SamplesShown.depths` that is; empty without a needle.
        before, needle, after: Of the context, around the needle; all in `before` without one.
        drawn: Whether it belongs to the sample that was drawn whatever was answered.
        answers: In the order of the arms.
    """

    sample_id: str
    prompt_sha256: str
    context_tokens: str
    depth: str
    part: str
    before: str
    needle: str
    after: str
    excerpt_cut: str
    expected: str
    drawn: bool = False
    answers: tuple[AnswerShown, ...]


class PromptGroup(Record):
    """Prompts of one task at one length, both as `SamplesShown` names them."""

    label: str
    heading: str
    task: str
    length: str
    prompts: tuple[PromptShown, ...]


class SamplesShown(Record):
    """All samples of a run, or a stated part of them.

    Attributes:
        notes: What is here, how it was chosen, and where the rest is.
        counts: For every arm, how it answered and how much of that is here.
        arms, tasks, lengths, depths: What the samples can be filtered by.
        heading: How many are here, in words.
        in_brief: The arms that stand in the line of a prompt that is closed.
    """

    notes: tuple[str, ...]
    counts: tuple[Line, ...]
    arms: tuple[str, ...]
    tasks: tuple[str, ...]
    lengths: tuple[str, ...]
    depths: tuple[str, ...]
    heading: str
    in_brief: tuple[str, ...]
    any_differ: bool
    groups: tuple[PromptGroup, ...]
