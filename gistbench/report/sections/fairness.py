"""What the arms' weights have seen, in plain words: who may be compared with whom."""

from __future__ import annotations

from collections.abc import Sequence

from gistbench.records import ArmRecord
from gistbench.report.evidence import FULL, GIST, TUNED, Evidence
from gistbench.report.sections.columns import rival_families


def fairness(evidence: Evidence) -> tuple[str, ...]:
    """What each arm was trained on, and what follows for reading their scores."""
    groups: dict[str, list[str]] = {}
    for arm in evidence.run.arms:
        groups.setdefault(_seen(arm), []).append(arm.name)
    lines = [
        f"{'Arms' if len(names) > 1 else 'Arm'} {_and(_shortened(evidence, names))} {seen}."
        for seen, names in groups.items()
    ]
    gist, full, tuned = (evidence.arm(name) for name in (GIST, FULL, TUNED))
    uneven = gist and full and gist.trained_on and not full.trained_on
    if gist and tuned and gist.trained_on and tuned.trained_on:
        lines.append(_with_tuned(gist, tuned))
    elif uneven:
        lines.append(
            "A higher accuracy of gist than of full therefore shows training on the task, not that "
            "gists hold more than the context."
        )
    asked = [arm.name for arm in evidence.run.arms if arm.sees_question]
    if asked:
        lines.append(
            f"{'Arms' if len(asked) > 1 else 'Arm'} {_and(_shortened(evidence, asked))} knew the "
            "question before reading, as no compressor does."
        )
    return tuple(lines)


def _seen(arm: ArmRecord) -> str:
    if arm.trained_on:
        trained = f"weights trained on the task family {', '.join(arm.trained_on)}"
        if arm.answered_by_base:
            return f"answered with the base model's own weights, from gists written by {trained}"
        return f"answered with {trained}"
    if arm.weights == "base":
        return "answered with the base model's weights, which were not trained on the task"
    return "answered with trained weights; the records do not say on what"


def _with_tuned(gist: ArmRecord, tuned: ArmRecord) -> str:
    """The even comparison, and whether it is one."""
    if set(gist.trained_on) == set(tuned.trained_on):
        return (
            "The even comparison is gist against full-tuned: both were trained on the task family, "
            "full-tuned with the whole context visible. What gist has over full is training; what "
            "it lacks to full-tuned is what compression cost."
        )
    return (
        f"full-tuned was trained on {', '.join(tuned.trained_on)}, gist on "
        f"{', '.join(gist.trained_on)}: their comparison is not even, and neither is that with "
        "full, which was trained on neither."
    )


def _shortened(evidence: Evidence, names: Sequence[str]) -> list[str]:
    """A family of rivals that is there with all its budgets is named once."""
    whole = {
        arm: f"{family} (every budget)"
        for family, arms in rival_families(evidence).items()
        if set(arms) <= set(names) and len(arms) > 1
        for arm in arms
    }
    return list(dict.fromkeys(whole.get(name, name) for name in names))


def _and(names: Sequence[str]) -> str:
    *others, last = names
    if len(names) <= 4:
        return " and ".join(names)
    return f"{', '.join(others)} and {last}"
