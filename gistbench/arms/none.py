"""No context: what can be guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gistbench.arms.base import Arm, Prompt, Reader
from gistbench.core.cache import ContextCache
from gistbench.models.decode import no_context, read_contexts


@dataclass(frozen=True)
class NoContext(Arm):
    """The question alone. A rate above the task's chance floor means that the task leaks."""

    family = "none"
    uses_checkpoint = "gist"
    reads_context = False

    def read(self, reader: Reader, prompts: Sequence[Prompt]) -> ContextCache:
        """Read nothing but the token that the tokenizer puts before every text, if any."""
        starts = [reader.text_start(prompt.tokens.context) for prompt in prompts]
        if all(starts):
            return read_contexts(reader.model, starts, keep_all=True)
        return no_context(len(prompts))
