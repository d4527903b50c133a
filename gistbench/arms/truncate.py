"""Truncation: the end of the context, and nothing before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gistbench.arms.base import BudgetArm, Prompt, Reader
from gistbench.core.cache import ContextCache
from gistbench.models.decode import read_contexts


@dataclass(frozen=True)
class Truncate(BudgetArm):
    """The base model reads the last N tokens as a fresh context, at positions 0 .. N-1.

    What a model with a window of N would be given. Where the tokenizer puts a token before every
    text, that token stays first and counts as one of the N.
    """

    family = "truncate"

    def read(self, reader: Reader, prompts: Sequence[Prompt]) -> ContextCache:
        """Keep every slot of the shortened contexts.

        Raises:
            UsageError: The budget does not fit the context.
        """
        contexts = []
        for prompt in prompts:
            self.require_budget(reader, prompt)
            context = prompt.tokens.context
            start = reader.text_start(context)
            contexts.append([*start, *context[len(context) - self.budget_tokens + len(start) :]])
        return read_contexts(reader.model, contexts, keep_all=True)
