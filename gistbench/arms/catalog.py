"""Every arm by name, found in its file. Imports torch through the arms."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module

import gistbench.arms
from gistbench.arms.base import Arm, BudgetArm
from gistbench.arms.kv import KeyValuePress
from gistbench.arms.names import ARM_NAMES, find_arm_name
from gistbench.arms.presses import PRESSES


def _kinds() -> Iterator[type[Arm]]:
    """The arms of this package: concrete classes whose family `ARM_NAMES` lists."""
    for module in pkgutil.iter_modules(gistbench.arms.__path__):
        found = import_module(f"{gistbench.arms.__name__}.{module.name}")
        for kind in vars(found).values():
            if not isinstance(kind, type) or kind.__module__ != found.__name__:
                continue
            if not issubclass(kind, Arm) or inspect.isabstract(kind):
                continue
            if kind.family in ARM_NAMES:
                yield kind


ARMS: dict[str, Arm] = {kind.family: kind() for kind in _kinds() if not issubclass(kind, BudgetArm)}
BUDGET_ARMS: dict[str, Callable[[int], BudgetArm]] = {
    **{kind.family: kind for kind in _kinds() if issubclass(kind, BudgetArm)},
    **{press: partial(KeyValuePress, press=press) for press in PRESSES},
}


def find_arm(name: str) -> Arm:
    """An arm by its name as in ``--models``, with its budget.

    Raises:
        UsageError: There is no such arm, or its budget is missing.
    """
    budget = find_arm_name(name).budget_tokens
    if budget is None:
        return ARMS[name]
    return BUDGET_ARMS[name.removesuffix(f"-{budget}")](budget)
