"""Retrieval: chunks of the context that match the question, read as a short context.

Retrieval-augmented generation: Lewis et al., 2020 (arXiv 2005.11401), over the sample's own context
in place of a corpus.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gistbench.arms.base import BudgetArm, Prompt, Reader
from gistbench.core.cache import ContextCache
from gistbench.models.decode import read_contexts

CHUNK_TOKENS = 500
MOST_CHUNKS = 3


@dataclass(frozen=True)
class Retrieval(BudgetArm):
    """The base model reads the chunks nearest to the question, at positions from 0.

    The context is cut into chunks of min(500, N) of the model's own tokens, the last one shorter.
    As many as the budget holds, at most 3, are kept, in the order of the document. Where the
    tokenizer puts a token before every text, that token stays first and counts as one of the N.

    These are the arms that know the question before they read. They serve one question; the cache
    of a compressor serves all. A comparison with them must say so.
    """

    sees_question: ClassVar[bool] = True

    @abstractmethod
    def nearest(
        self, reader: Reader, question: str, chunks: Sequence[str], count: int
    ) -> list[int]:
        """Places of the `count` chunks nearest to the question, in any order."""

    def read(self, reader: Reader, prompts: Sequence[Prompt]) -> ContextCache:
        """Choose chunks for each prompt by itself, then read them in one batch.

        Raises:
            UsageError: The budget does not fit the context.
            PrerequisiteError: The arm's packages are not installed.
        """
        contexts = [self.shortened(reader, prompt) for prompt in prompts]
        return read_contexts(reader.model, contexts, keep_all=True)

    def shortened(self, reader: Reader, prompt: Prompt) -> list[int]:
        """Token ids of the chunks that are kept, at most the budget."""
        self.require_budget(reader, prompt)
        start = reader.text_start(prompt.tokens.context)
        room = self.budget_tokens - len(start)
        chunks = cut(prompt.tokens.context[len(start) :], min(CHUNK_TOKENS, room))
        count = min(MOST_CHUNKS, room // len(chunks[0]), len(chunks))

        def text(ids: list[int]) -> str:
            return str(reader.tokenizer.decode(ids, skip_special_tokens=True))

        kept = self.nearest(
            reader, text(prompt.tokens.question), [text(chunk) for chunk in chunks], count
        )
        return [*start, *(token for place in sorted(kept) for token in chunks[place])]


def cut(tokens: Sequence[int], chunk_tokens: int) -> list[list[int]]:
    """Consecutive chunks; the last one holds what is left."""
    return [
        list(tokens[first : first + chunk_tokens]) for first in range(0, len(tokens), chunk_tokens)
    ]
