"""A compressed context on disk is the compressed context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gistbench.models.cache import open_cache
from gistbench.models.decode import continue_layout, read_contexts
from gistbench.models.gist_file import GistStore, load_context, save_context


def question_logits(model: Any, context: Any, question: list[int]) -> torch.Tensor:
    layout = continue_layout(context, (0,))
    with torch.inference_mode():
        return model(
            input_ids=torch.tensor([question]),
            position_ids=layout.suffix_positions(0, len(question)),
            past_key_values=open_cache(context, room=len(question)),
            use_cache=True,
            layout=layout,
        ).logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_context_gives_identical_tensors_and_logits(
    tiny: Any, make_batch: Any, tmp_path: Path, dtype: torch.dtype
) -> None:
    tiny.to(dtype)
    batch = make_batch()
    row = read_contexts(tiny, batch.contexts, gist_ids=batch.gist_ids).row(1)
    save_context(row, tmp_path / "deep" / "one.safetensors")
    loaded = load_context(tmp_path / "deep" / "one.safetensors")
    assert loaded.layout == row.layout
    assert loaded.layout.prefix_length == 15
    assert loaded.num_bytes == row.num_bytes
    for kept, read in zip((*row.keys, *row.values), (*loaded.keys, *loaded.values), strict=True):
        assert kept.dtype == read.dtype == dtype
        assert torch.equal(kept, read)
    question = batch.questions[0]
    assert torch.equal(
        question_logits(tiny, row, question), question_logits(tiny, loaded, question)
    )
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["one.safetensors"]


def test_one_file_holds_one_context(make_tiny: Any, make_batch: Any, tmp_path: Path) -> None:
    batch = make_batch()
    contexts = read_contexts(make_tiny("llama"), batch.contexts, gist_ids=batch.gist_ids)
    with pytest.raises(ValueError, match="one file holds one context"):
        save_context(contexts, tmp_path / "all.safetensors")
    assert not list(tmp_path.iterdir())


def test_store_finds_contexts_by_their_prompt(
    make_tiny: Any, make_batch: Any, tmp_path: Path
) -> None:
    batch = make_batch()
    contexts = read_contexts(make_tiny("llama"), batch.contexts, gist_ids=batch.gist_ids)
    store = GistStore(tmp_path / "gists", "cpu")
    for row in range(3):
        store.save(f"{row:064x}", contexts.row(row))
    assert store.load("f" * 64) is None
    for row in range(3):
        loaded = store.load(f"{row:064x}")
        assert loaded is not None
        assert torch.equal(loaded.keys[1], contexts.row(row).keys[1])
