"""Retrieval by words: chunks that share the question's rarest words."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gistbench.arms.base import Reader
from gistbench.arms.names import require_packages
from gistbench.arms.retrieval import Retrieval

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class RagBM25(Retrieval):
    """Chunks are ranked by BM25 (Robertson and Zaragoza, 2009), as bm25s computes it.

    bm25s: Lù, 2024 (arXiv 2407.03618). Words are lower-cased; none is left out or stemmed, so that
    the arm treats every language alike: words that are in every chunk weigh next to nothing.
    """

    family = "rag-bm25"

    def nearest(
        self, reader: Reader, question: str, chunks: Sequence[str], count: int
    ) -> list[int]:
        """Rank this context's chunks; of equals the earlier one comes first."""
        require_packages(self.about)
        bm25s = _bm25s()
        corpus = [_words(chunk) for chunk in chunks]
        known = {word for words in corpus for word in words}
        asked = [word for word in _words(question) if word in known]
        # bm25s cannot index a corpus without words.
        scores = np.zeros(len(chunks))
        if asked:
            index = bm25s.BM25()
            index.index(corpus, show_progress=False)
            scores = index.get_scores(asked)
        return [int(place) for place in np.argsort(-scores, kind="stable")[:count]]


def _bm25s() -> Any:
    # Where JAX is installed bm25s calls it once while it is imported, for a kernel that is not used
    # here; JAX then takes three quarters of the GPU's memory, which the arm would be charged with.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import bm25s

    return bm25s


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
