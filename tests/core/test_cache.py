"""A context cache holds the visible slots; rows and stacks are inverse to each other."""

from __future__ import annotations

import pytest
import torch

from gistbench.core.cache import ContextCache, stack
from gistbench.core.layout import GistLayout


def make_cache(prefix: int, visible: int, padding: tuple[int, ...], seed: int = 0) -> ContextCache:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(padding), 2, visible, 4)
    layout = GistLayout(prefix, visible, padding, (0,) * len(padding), "suffix")
    keys, values = (
        tuple(torch.randn(shape, generator=generator) for _ in range(3)) for _ in range(2)
    )
    return ContextCache(keys, values, layout)


def assert_same(left: ContextCache, right: ContextCache) -> None:
    assert left.layout == right.layout
    for one, other in zip((*left.keys, *left.values), (*right.keys, *right.values), strict=True):
        assert torch.equal(one, other)


def test_stacked_rows_are_the_batch_they_came_from() -> None:
    batch = make_cache(20, 3, (0, 5, 12))
    assert_same(stack([batch.row(index) for index in range(3)]), batch)


def test_rows_of_a_stack_are_the_caches_that_went_in() -> None:
    singles = [make_cache(length, 4, (0,), seed=length) for length in (30, 9, 17)]
    joined = stack(singles)
    assert joined.layout.prefix_length == 30
    assert joined.layout.prefix_padding == (0, 21, 13)
    for index, single in enumerate(singles):
        assert_same(joined.row(index), single)


def test_stacks_of_batches_keep_every_row() -> None:
    first, second = make_cache(20, 3, (0, 6), seed=1), make_cache(11, 3, (2, 0), seed=2)
    joined = stack([first, second])
    for index, (cache, row) in enumerate([(first, 0), (first, 1), (second, 0), (second, 1)]):
        assert_same(joined.row(index), cache.row(row))


def test_row_of_a_full_context_sheds_its_padding() -> None:
    batch = make_cache(10, 10, (0, 4))
    row = batch.row(1)
    assert row.num_slots == 6
    assert row.layout.prefix_length == 6
    assert row.layout.prefix_padding == (0,)
    assert torch.equal(row.keys[2], batch.keys[2][1:2, :, 4:])


def test_whole_contexts_of_different_lengths_are_stacked_with_padding() -> None:
    singles = [make_cache(length, length, (0,), seed=length) for length in (10, 4, 7)]
    joined = stack(singles)
    assert joined.layout.visible_padding == joined.layout.prefix_padding == (0, 6, 3)
    for index, single in enumerate(singles):
        assert_same(joined.row(index), single)
    assert not joined.values[0][1, :, :6].any()


def test_row_has_memory_of_its_own() -> None:
    batch = make_cache(20, 3, (0, 5))
    row = batch.row(1)
    for tensor in (*row.keys, *row.values):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    row.keys[0].zero_()
    assert batch.keys[0][1].any()


def test_caches_of_different_sizes_are_not_stacked() -> None:
    with pytest.raises(ValueError, match=r"caches of \[3, 4\] slots cannot share a batch"):
        stack([make_cache(9, 3, (0,)), make_cache(9, 4, (0,))])


@pytest.mark.parametrize("slots", [2, 4, 20])
def test_cache_refuses_to_hold_anything_but_the_visible_slots(slots: int) -> None:
    layout = GistLayout(20, 3, (0,), (0,), "suffix")
    tensor = torch.zeros(1, 2, slots, 4)
    with pytest.raises(ValueError, match=f"3 visible slots cannot hold {slots}"):
        ContextCache((tensor,), (tensor,), layout)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_are_counted_exactly(dtype: torch.dtype) -> None:
    layout = GistLayout(20, 3, (0, 0), (0, 0), "suffix")
    tensors = tuple(torch.zeros(2, 5, 3, 8, dtype=dtype) for _ in range(4))
    assert (
        ContextCache(tensors, tensors, layout).num_bytes == 2 * 4 * 2 * 5 * 3 * 8 * dtype.itemsize
    )


def test_selected_rows_are_those_of_the_batch_as_often_as_they_are_named() -> None:
    batch = make_cache(20, 3, (0, 5, 12))
    chosen = batch.select([2, 0, 2])
    for place, row in enumerate((2, 0, 2)):
        assert_same(chosen.row(place), batch.row(row))
    assert batch.select([0, 1, 2]) is batch
