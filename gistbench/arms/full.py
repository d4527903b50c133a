"""Full context: every key and value is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gistbench.arms.base import Arm, Prompt, Reader
from gistbench.core.cache import ContextCache
from gistbench.models.decode import read_contexts


@dataclass(frozen=True)
class Full(Arm):
    """The base model as it is, not trained on the task: the question sees the whole context."""

    family = "full"

    def read(self, reader: Reader, prompts: Sequence[Prompt]) -> ContextCache:
        """Keep every slot."""
        contexts = [prompt.tokens.context for prompt in prompts]
        return read_contexts(
            reader.model, contexts, keep_all=True, chunk_tokens=reader.chunk_tokens
        )
