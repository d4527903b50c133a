"""Every arm by name. A new arm is one file and one line here. Imports torch through the arms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gistbench.arms.base import Arm, BudgetArm
from gistbench.arms.full import Full
from gistbench.arms.full_tuned import FullTuned
from gistbench.arms.gist import Gist
from gistbench.arms.kv import KeyValuePress
from gistbench.arms.mean_pool import MeanPool
from gistbench.arms.names import find_arm_name
from gistbench.arms.none import NoContext
from gistbench.arms.presses import PRESSES
from gistbench.arms.rag import Rag
from gistbench.arms.rag_bm25 import RagBM25
from gistbench.arms.swapped import Swapped
from gistbench.arms.truncate import Truncate

ARMS: dict[str, Arm] = {
    arm.name: arm for arm in (Gist(), Full(), FullTuned(), NoContext(), Swapped())
}
BUDGET_ARMS: dict[str, Callable[[int], BudgetArm]] = {
    **{kind.family: kind for kind in (Truncate, MeanPool, Rag, RagBM25)},
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
