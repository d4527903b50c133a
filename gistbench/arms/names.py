"""Names of the arms, for a command line that must not wait for torch.

A test holds this list against the arms themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from gistbench.config import Objective
from gistbench.errors import UsageError, did_you_mean


@dataclass(frozen=True, slots=True)
class ArmName:
    """What can be known of an arm without loading it.

    Attributes:
        needs_checkpoint: The objective of the checkpoint that it cannot run without, if any.
    """

    name: str
    description: str
    needs_checkpoint: Objective | None = None
    is_control: bool = False


ARM_NAMES: dict[str, ArmName] = {
    arm.name: arm
    for arm in (
        ArmName(
            "gist", "the question sees the gist tokens alone; the checkpoint's weights", "gist"
        ),
        ArmName(
            "full", "the question sees the whole context; base weights, not trained on the task"
        ),
        ArmName(
            "full-tuned",
            "the question sees the whole context; the tuned checkpoint's weights",
            "full",
        ),
        ArmName(
            "none",
            "control: the question alone, no context and no gists; the floor",
            is_control=True,
        ),
        ArmName(
            "swapped",
            "control: the gists of another sample with another answer",
            "gist",
            is_control=True,
        ),
    )
}


def with_controls(models: tuple[str, ...]) -> tuple[str, ...]:
    """The arms of a run: those asked for, and the controls that belong to them.

    Raises:
        UsageError: An unknown arm, with the nearest name; or none at all.
    """
    if not models:
        raise UsageError(f"--models names no arm; {did_you_mean('', ARM_NAMES)}")
    for name in models:
        if name not in ARM_NAMES:
            raise UsageError(f"unknown arm {name!r} in --models, {did_you_mean(name, ARM_NAMES)}")
    wanted = list(dict.fromkeys(models))
    if "gist" in wanted:
        wanted += [name for name in ("swapped",) if name not in wanted]
    wanted += [name for name in ("none",) if name not in wanted]
    # The swapped control reuses what the gist arm compressed.
    return tuple(sorted(wanted, key=lambda name: (name != "gist", wanted.index(name))))
