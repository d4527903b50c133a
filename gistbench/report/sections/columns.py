"""Which arms stand side by side, and which behind a click.

A table of thirty columns is read by nobody. Where there are many arms, those without a budget make
the main table, and each rival with its budgets a table of its own.
"""

from __future__ import annotations

import re

from gistbench.report.controls import CONTROLS
from gistbench.report.evidence import Evidence

MAX_COLUMNS = 6
FEW_TASKS = 3

_WITH_BUDGET = re.compile(r"(?P<family>.+)-(?P<budget>[0-9]+)")


def budget_of(evidence: Evidence, arm: str) -> int | None:
    """Context tokens that an arm may keep; None for an arm without a budget."""
    record = evidence.arm(arm)
    if record is not None:
        return record.budget_tokens
    found = _WITH_BUDGET.fullmatch(arm)  # one that could not take part left its name alone
    return int(found["budget"]) if found else None


def family_of(evidence: Evidence, arm: str) -> str:
    """An arm's name without its budget."""
    budget = budget_of(evidence, arm)
    return arm if budget is None else arm.removesuffix(f"-{budget}")


def main_arms(evidence: Evidence) -> tuple[str, ...]:
    """All arms where they are few, else those without a budget."""
    arms = evidence.arm_names
    if len(arms) <= MAX_COLUMNS:
        return arms
    return tuple(arm for arm in arms if budget_of(evidence, arm) is None) or arms[:MAX_COLUMNS]


def rival_families(evidence: Evidence) -> dict[str, tuple[str, ...]]:
    """The arms that are not main ones, by family, budgets ascending."""
    main = main_arms(evidence)
    found: dict[str, list[str]] = {}
    for arm in evidence.arm_names:
        if arm not in main:
            found.setdefault(family_of(evidence, arm), []).append(arm)
    return {
        family: tuple(sorted(arms, key=lambda arm: budget_of(evidence, arm) or 0))
        for family, arms in found.items()
    }


def only_main_arms(evidence: Evidence) -> str:
    """What a section says that shows the main arms alone; empty where these are all."""
    rest = len(evidence.arm_names) - len(main_arms(evidence))
    return f"Shown for the arms without a budget; {rest} more are in the records." if rest else ""


def compared_arms(evidence: Evidence) -> tuple[str, ...]:
    """Every arm that is no control: families together, budgets ascending."""
    order: dict[str, list[str]] = {}
    for arm in evidence.arm_names:
        if arm not in CONTROLS:
            order.setdefault(family_of(evidence, arm), []).append(arm)
    return tuple(
        arm
        for arms in order.values()
        for arm in sorted(arms, key=lambda arm: budget_of(evidence, arm) or 0)
    )
