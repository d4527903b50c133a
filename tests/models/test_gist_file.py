"""A compressed context on disk is the compressed context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gistbench.errors import UsageError
from gistbench.models.cache import open_cache
from gistbench.models.decode import continue_layout, read_contexts
from gistbench.models.gist_file import GistStore, load_context, read_context, save_context
from gistbench.models.origin import origin_of


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


# ------------------------------------------------------------------------------------ damaged files


@pytest.fixture
def file(make_tiny: Any, make_batch: Any, tmp_path: Path) -> Path:
    batch = make_batch((9,), (2,))
    contexts = read_contexts(make_tiny("llama"), batch.contexts, gist_ids=batch.gist_ids)
    save_context(contexts, tmp_path / "one.safetensors")
    return tmp_path / "one.safetensors"


def refused(file: Path) -> str:
    with pytest.raises(UsageError) as raised:
        load_context(file)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(str(file))
    return str(raised.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.999])
def test_file_cut_short_anywhere_is_refused(file: Path, share: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    assert "cut short or is another kind of file; compress the text again" in refused(file)


@pytest.mark.parametrize("content", [b"The grass is green.\n" * 9, b"\x89PNG\r\n\x1a\n" * 9])
def test_file_of_another_kind_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert "another kind of file" in refused(file)


def test_file_that_is_not_there_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "does not exist; write it with `gistbench compress" in refused(tmp_path / "none")
    assert "is a folder; name a file in it" in refused(tmp_path)


def test_other_tensors_are_no_compressed_context(file: Path) -> None:
    for metadata in (None, {"sha256": "0"}):
        save_file({"weight": torch.zeros(2)}, file, metadata=metadata)
        assert "holds no compressed context" in refused(file)


@pytest.mark.parametrize("place", [-1, -100, "prefix_length", "segmented", "F32"])
def test_file_changed_by_hand_is_refused(file: Path, place: int | str) -> None:
    data = bytearray(file.read_bytes())
    if isinstance(place, int):
        data[place] ^= 1
    elif place == "prefix_length":
        at = data.index(b'"prefix_length":"12"')
        data[at : at + 20] = b'"prefix_length":"13"'
    elif place == "segmented":
        at = data.index(b"False")
        data[at : at + 5] = b"True "
    else:
        at = data.index(b"F32")
        data[at : at + 3] = b"I32"
    file.write_bytes(data)
    assert "was changed after it was written" in refused(file)


def test_context_without_an_origin_or_of_another_format_is_not_asked(file: Path) -> None:
    _, metadata = read_context(file)
    with pytest.raises(UsageError, match="does not say which model and text it comes from"):
        origin_of(metadata, file)
    cache = load_context(file)
    save_context(cache, file, origin={"format_version": "2"})
    with pytest.raises(UsageError, match="has format version 2, this gistbench reads 1"):
        origin_of(read_context(file)[1], file)
