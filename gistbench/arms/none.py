"""No context: what can be guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gistbench.arms.base import Arm, Prompt, Reader
from gistbench.core.cache import ContextCache
from gistbench.models.decode import no_context


@dataclass(frozen=True)
class NoContext(Arm):
    """The question alone. A rate above the task's chance floor means that the task leaks."""

    name = "none"
    uses_checkpoint = True
    reads_context = False

    def read(self, reader: Reader, prompts: Sequence[Prompt]) -> ContextCache:
        """Read nothing."""
        return no_context(len(prompts))
