"""After compression the cache holds the gists: their number, their bytes, their numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache

from gistbench.core.layout import GistLayout
from gistbench.models.cache import RoomyLayer, collecting_cache, open_cache
from gistbench.models.decode import no_context, read_contexts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compressed_cache_holds_exactly_the_gists(
    tiny: Any, make_batch: Any, dtype: torch.dtype
) -> None:
    batch = make_batch()
    tiny.to(dtype)
    context = read_contexts(tiny, batch.contexts, gist_ids=batch.gist_ids)
    config = tiny.config
    head_dim = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    shape = (4, kv_heads, 3, head_dim)
    assert len(context.keys) == len(context.values) == config.num_hidden_layers
    for tensor in (*context.keys, *context.values):
        assert tensor.shape == shape
        assert tensor.dtype == dtype
        # Not a view: nothing of the context stays in memory behind it.
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    per_row = config.num_hidden_layers * 2 * kv_heads * 3 * head_dim
    assert context.num_bytes == 4 * per_row * dtype.itemsize
    assert context.row(2).num_bytes == per_row * dtype.itemsize
    assert context.num_slots == 3


@torch.no_grad()
def test_compressed_cache_is_the_end_of_an_ordinary_cache(
    tiny: Any, make_batch: Any, passes: Any
) -> None:
    batch = make_batch()
    context = read_contexts(tiny, batch.contexts, gist_ids=batch.gist_ids)
    plain = passes.ordinary(tiny)
    for row, tokens in enumerate(batch.contexts):
        cache = DynamicCache()
        ids = torch.tensor([[*tokens, *batch.gist_ids]])
        plain(ids, past_key_values=cache, use_cache=True)
        for layer, key, value in zip(cache.layers, context.keys, context.values, strict=True):
            assert layer.keys.shape[2] == len(tokens) + 3
            assert (layer.keys[0, :, -3:] - key[row]).abs().max() < 1e-4
            assert (layer.values[0, :, -3:] - value[row]).abs().max() < 1e-4


@torch.no_grad()
def test_full_context_cache_is_an_ordinary_cache(tiny: Any, make_batch: Any, passes: Any) -> None:
    contexts = [tokens for tokens in make_batch().contexts if tokens]
    context = read_contexts(tiny, contexts, keep_all=True)
    plain = passes.ordinary(tiny)
    for index, tokens in enumerate(contexts):
        row, cache = context.row(index), DynamicCache()
        plain(torch.tensor([tokens]), past_key_values=cache, use_cache=True)
        assert row.num_slots == len(tokens)
        for layer, key, value in zip(cache.layers, row.keys, row.values, strict=True):
            assert (layer.keys - key).abs().max() < 1e-4
            assert (layer.values - value).abs().max() < 1e-4


def test_size_of_the_compressed_cache_does_not_depend_on_the_context(
    make_tiny: Any, make_batch: Any
) -> None:
    model = make_tiny("mistral-window-8")
    sizes = {
        read_contexts(model, make_batch((length,), (1,)).contexts, gist_ids=(58, 59)).num_bytes
        for length in (0, 1, 7, 8, 9, 200)
    }
    assert len(sizes) == 1


def test_a_context_is_read_in_one_pass_only(make_tiny: Any) -> None:
    model = make_tiny("llama")
    layout = GistLayout(4, 2, (0,), (0,), "prefix")
    cache = collecting_cache(layout, 2)
    options = {"past_key_values": cache, "use_cache": True, "layout": layout}
    model(torch.tensor([[1, 2, 3, 4]]), **options)
    with pytest.raises(ValueError, match="read in one pass"):
        model(torch.tensor([[1, 2, 3, 4]]), **options)


def test_opened_cache_writes_beside_the_context_never_into_it(
    make_tiny: Any, make_batch: Any
) -> None:
    batch = make_batch()
    context = read_contexts(make_tiny("llama"), batch.contexts, gist_ids=batch.gist_ids)
    before = [tensor.clone() for tensor in (*context.keys, *context.values)]
    layer = open_cache(context, room=5).layers[0]
    keys, values = layer.update(torch.ones(4, 2, 5, 8), torch.ones(4, 2, 5, 8))
    keys.zero_()
    values.zero_()
    after = (*context.keys, *context.values)
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_roomy_layer_appends_in_place_and_refuses_more_than_its_room() -> None:
    start, new = torch.randn(2, 1, 3, 4), torch.randn(2, 1, 5, 4)
    layer = RoomyLayer(start, start, room=5)
    first, _ = layer.update(new[:, :, :4], new[:, :, :4])
    second, values = layer.update(new[:, :, 4:], new[:, :, 4:])
    assert torch.equal(second, torch.cat([start, new], dim=2))
    assert torch.equal(values, second)
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    assert layer.get_seq_length() == 8
    with pytest.raises(ValueError, match="room for 8 slots, not 9"):
        layer.update(new[:, :, :1], new[:, :, :1])


def test_no_context_is_an_empty_cache() -> None:
    context = no_context(3)
    assert context.num_bytes == 0
    assert context.num_slots == 0
    assert open_cache(context, room=4).get_seq_length() == 0
