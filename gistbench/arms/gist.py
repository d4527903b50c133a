"""Gist tokens: the context is written into a few of them, and dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gistbench.arms.base import Arm, Prompt, Reader
from gistbench.core.cache import ContextCache
from gistbench.models.decode import read_contexts


@dataclass(frozen=True)
class Gist(Arm):
    """The question sees the gist tokens' keys and values (Mu et al., 2023, arXiv 2304.08467)."""

    family = "gist"
    uses_checkpoint = "gist"

    def read(self, reader: Reader, prompts: Sequence[Prompt]) -> ContextCache:
        """Keep the gists."""
        contexts = [prompt.tokens.context for prompt in prompts]
        return read_contexts(
            reader.model,
            contexts,
            gist_ids=reader.gist_ids,
            segmented=reader.segmented,
            chunk_tokens=reader.chunk_tokens,
        )

    def share(self, reader: Reader, prompts: Sequence[Prompt], cache: ContextCache) -> None:
        """Store the gists for the swapped control, where the run has one."""
        if reader.store is not None:
            for row, prompt in enumerate(prompts):
                reader.store.save(prompt.sha256, cache.row(row))
