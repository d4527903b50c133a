"""Another sample's gists: what an answer owes to its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gistbench.arms.base import Arm, Prompt, Reader
from gistbench.core.cache import ContextCache, stack
from gistbench.models.decode import read_contexts


@dataclass(frozen=True)
class Swapped(Arm):
    """Gists of a sample with another answer. Right answers here do not come from the gists."""

    family = "swapped"
    uses_checkpoint = "gist"
    reads_context = False

    def read(self, reader: Reader, prompts: Sequence[Prompt]) -> ContextCache:
        """Reuse the caches that the gist arm compressed; compress a donor that is not there.

        Raises:
            ValueError: A prompt has no donor with another answer.
        """
        caches = []
        for prompt in prompts:
            donor = prompt.donor
            if donor is None or donor.answer == prompt.answer:
                raise ValueError(f"{prompt.sample_id} has no donor with another answer")
            stored = reader.store.load(donor.sha256) if reader.store is not None else None
            if stored is None:
                stored = read_contexts(
                    reader.model,
                    [donor.tokens.context],
                    gist_ids=reader.gist_ids,
                    segmented=reader.segmented,
                    chunk_tokens=reader.chunk_tokens,
                )
            caches.append(stored)
        return stack(caches)
