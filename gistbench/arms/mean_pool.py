"""Mean pooling: the whole context, its neighbouring keys and values averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gistbench.arms.base import BudgetArm, Prompt, Reader
from gistbench.core.cache import ContextCache
from gistbench.core.pooling import mean_pooled
from gistbench.errors import UsageError
from gistbench.models.decode import read_contexts
from gistbench.models.loading import rotary_frequencies


@dataclass(frozen=True)
class MeanPool(BudgetArm):
    """The base model reads all of the context; keys and values are averaged into N slots.

    Keys are turned to the middle position of their group before they are averaged:
    `gistbench.core.pooling` says why. The question stands after the whole context, as in `full`,
    and with N equal to the context's length the cache is that of `full`. Nothing is trained.
    """

    family = "mean-pool"

    def read(self, reader: Reader, prompts: Sequence[Prompt]) -> ContextCache:
        """Read everything, keep the means.

        Raises:
            UsageError: The budget does not fit the context, or the model's attention window is
                shorter than the context.
        """
        config: Any = reader.model.config
        window = getattr(config, "sliding_window", None)
        contexts = []
        for prompt in prompts:
            self.require_budget(reader, prompt)
            contexts.append(prompt.tokens.context)
            # The window is counted in slots from the question; means stand for more than one.
            if window is not None and len(prompt.tokens.context) >= window:
                raise UsageError(
                    f"arm {self.name} needs a model that attends to its whole context, and this "
                    f"one sees {window:,} tokens back; pass --context-tokens {window - 1} or less"
                )
        whole = read_contexts(
            reader.model, contexts, keep_all=True, chunk_tokens=reader.chunk_tokens
        )
        return mean_pooled(whole, self.budget_tokens, rotary_frequencies(reader.model))
