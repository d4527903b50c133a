"""Retrieval by meaning: chunks whose embeddings are nearest to the question's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gistbench.arms.base import Reader
from gistbench.arms.names import require_packages
from gistbench.arms.retrieval import Retrieval
from gistbench.models.embedding import Vectors, load_minilm

Embedder = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True)
class Rag(Retrieval):
    """Chunks are embedded by all-MiniLM-L6-v2 and found in a usearch index by cosine.

    The embedding model runs on the device of the reading model; its time is part of the arm's
    reading time, its weights part of the process's memory.

    Attributes:
        embedder: Texts to unit vectors ``(texts, size)``; MiniLM where none is given.
    """

    embedder: Embedder | None = None

    family = "rag"

    def nearest(
        self, reader: Reader, question: str, chunks: Sequence[str], count: int
    ) -> list[int]:
        """Search an index of this context's chunks."""
        if self.embedder is None:
            require_packages(self.about)
        embed = self.embedder or load_minilm(str(next(reader.model.parameters()).device))
        vectors = embed([question, *chunks])
        return search(vectors[0], vectors[1:], count)


def search(query: Vectors, vectors: Vectors, count: int) -> list[int]:
    """Places of the vectors nearest to a query by cosine, exactly.

    Args:
        query: ``(size)``.
        vectors: ``(chunks, size)``.
        count: How many.
    """
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="cos", dtype="f32")
    index.add(np.arange(len(vectors)), vectors)
    # A context has a few dozen chunks: comparing with each is faster than a graph, and exact.
    return [int(key) for key in index.search(query, count, exact=True).keys]
