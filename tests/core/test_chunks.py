"""Chunks of a prefix, and memory before it, follow the definition pair by pair."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gistbench.core.attention import gist_attention
from gistbench.core.cache import ContextCache, stack
from gistbench.core.layout import GistLayout
from gistbench.core.mask import dense_mask
from tests.core.test_attention import TOLERANCE, dense_attention


@st.composite
def layouts(draw: st.DrawFn) -> GistLayout:
    """With memory in about half of them: of other lengths and positions in each row."""
    rows, visible = draw(st.integers(1, 3)), draw(st.integers(0, 4))
    memory: tuple[tuple[int, ...], ...] = ()
    if draw(st.booleans()):
        memory = tuple(
            tuple(sorted(draw(st.sets(st.integers(0, 30), max_size=5)))) for _ in range(rows)
        )
    most = max(map(len, memory), default=0)
    prefix = most + visible + draw(st.integers(0, 15))
    padding = tuple(
        draw(st.integers(0, prefix - visible - (len(memory[row]) if memory else 0)))
        for row in range(rows)
    )
    return GistLayout(
        prefix_length=prefix,
        num_visible=visible,
        prefix_padding=padding,
        suffix_padding=(0,) * rows,
        stage="chunk",
        segmented=draw(st.booleans()),
        memory=memory,
    )


def may_see(layout: GistLayout, row: int, query: int, key: int, window: int | None) -> bool:
    """The definition in words: the memory, then one's own part and what was visible before."""
    padding, held = layout.prefix_padding[row], layout.memory_slots[row]
    start, first = padding + held, layout.prefix_length - layout.num_visible
    after = layout.memory[row][-1] + 1 if held else 0

    def part(gist: int) -> range:
        length = first - start
        ends = [length * number // layout.num_visible for number in (gist, gist + 1)]
        return range(start + ends[0], start + ends[1])

    def position(slot: int) -> int:
        if slot < start:
            return layout.memory[row][slot - padding]
        if layout.segmented and slot >= first:
            return after + part(slot - first).stop - start + slot - first
        return after + slot - start

    if query < padding or key < padding:
        return query == key
    if key > query:
        return False
    is_gist = layout.segmented and query >= first
    if is_gist and start <= key < first and key not in part(query - first):
        return False
    return window is None or position(query) - position(key) < window


@given(layouts(), st.none() | st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_dense_mask_is_the_definition_pair_by_pair(layout: GistLayout, window: int | None) -> None:
    slots = range(layout.prefix_length)
    expected = [
        [[may_see(layout, row, query, key, window) for key in slots] for query in slots]
        for row in range(layout.batch_size)
    ]
    assert dense_mask(layout, 0, window).tolist() == expected


@given(layouts(), st.none() | st.integers(1, 40), st.data())
@settings(max_examples=150, deadline=None)
def test_chunks_of_any_size_equal_dense_attention(
    layout: GistLayout, window: int | None, data: st.DataObject
) -> None:
    kv_heads, groups = data.draw(st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 2)]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    length = layout.prefix_length
    query, key, value = (
        torch.randn(layout.batch_size, heads, length, 4, dtype=torch.float64, generator=generator)
        for heads in (kv_heads * groups, kv_heads, kv_heads)
    )
    # What the memory's own slots would attend to is no question: they are never queries.
    done = start = (
        max(
            (padding + held)
            for padding, held in zip(layout.prefix_padding, layout.memory_slots, strict=True)
        )
        if layout.memory
        else 0
    )
    parts = []
    while done < length:
        end = data.draw(st.integers(done + 1, length))
        parts.append(
            gist_attention(
                query[:, :, done:end],
                key[:, :, :end],
                value[:, :, :end],
                layout,
                scaling=0.7,
                sliding_window=window,
            )
        )
        done = end
    if not parts:
        return
    got = torch.cat(parts, dim=2)
    assert got.isfinite().all()
    expected = dense_attention(query, key, value, dense_mask(layout, 0, window), 0.7)
    slot = torch.arange(start, length)
    real = slot >= torch.tensor(layout.prefix_padding).unsqueeze(1)
    assert ((got - expected[:, :, start:]) * real[:, None, :, None]).abs().max() < TOLERANCE


def test_memory_keeps_its_positions_and_the_rest_goes_on_behind_them() -> None:
    layout = GistLayout(8, 2, (0, 1), (0, 0), "chunk", memory=((4, 5, 10), (7,)))
    assert layout.prefix_positions().tolist() == [
        [4, 5, 10, 11, 12, 13, 14, 15],
        [0, 7, 8, 9, 10, 11, 12, 13],
    ]
    assert layout.suffix_positions(0, 2).tolist() == [[16, 17], [14, 15]]
    parts = replace(layout, segmented=True)
    assert parts.segment_bounds().tolist() == [[3, 4, 6], [2, 4, 6]]
    assert parts.prefix_positions()[:, 6:].tolist() == [[12, 15], [10, 13]]


@pytest.mark.parametrize("segmented", [False, True])
def test_what_a_read_leaves_continues_where_it_ended(segmented: bool) -> None:
    layout = GistLayout(9, 2, (0, 3), (0, 0), "prefix", segmented=segmented)
    left = layout.as_memory()
    assert left.memory[0] == ((3, 8) if segmented else (7, 8))
    assert torch.equal(left.suffix_positions(0, 3), layout.suffix_positions(0, 3))
    assert torch.equal(left.prefix_positions(), layout.prefix_positions()[:, 7:])
    assert left.as_memory() == left, "memory alone stays as it is"
    more = GistLayout(8, 2, (0,), (0,), "chunk", segmented, memory=left.memory[:1])
    assert more.as_memory().memory[0][:2] == left.memory[0]
    assert len(more.as_memory().memory[0]) == 4


@pytest.mark.parametrize("memory", [((1, 2, 3), (1,)), ((1,),), ((1, 2), (1, 2))])
def test_memory_that_does_not_fit_its_rows_is_refused(memory: Any) -> None:
    with pytest.raises(ValueError, match="do not fit rows of"):
        GistLayout(2, 0, (0, 1), (0, 0), "chunk", memory=memory)


def test_caches_with_memory_and_without_are_stacked_and_taken_apart() -> None:
    def make(slots: int, layout: GistLayout) -> ContextCache:
        tensors = tuple(torch.randn(1, 2, slots, 4) for _ in range(2))
        return ContextCache(tensors, tensors, layout)

    long = make(4, GistLayout(4, 4, (0,), (0,), "suffix", memory=((3, 4, 8, 9),)))
    plain = make(2, GistLayout(30, 2, (0,), (0,), "suffix"))
    joined = stack([plain, long])
    assert joined.layout.memory == ((28, 29), (3, 4, 8, 9))
    assert joined.layout.visible_padding == (2, 0)
    assert joined.layout.suffix_positions(0, 1).tolist() == [[30], [10]]
    assert joined.row(1).layout == long.layout
    assert torch.equal(joined.row(0).keys[1], plain.keys[1])
    assert joined.select([1, 1]).layout.memory == ((3, 4, 8, 9),) * 2


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [(8, 8), (8, 2)])
def test_flash_kernels_align_a_chunk_with_the_last_key(
    dtype: torch.dtype, heads: tuple[int, int]
) -> None:
    layout = GistLayout(3000, 10, (0,), (0,), "chunk")
    query, key, value = (
        torch.randn(1, count, 3000, 64, device="cuda", dtype=dtype)
        for count in (heads[0], heads[1], heads[1])
    )
    got = torch.cat(
        [
            gist_attention(
                query[:, :, start:end], key[:, :, :end], value[:, :, :end], layout, scaling=0.125
            )
            for start, end in ((0, 1024), (1024, 2048), (2048, 2999), (2999, 3000))
        ],
        dim=2,
    )
    whole = gist_attention(query, key, value, layout.at("prefix"), scaling=0.125)
    assert (got - whole).abs().max() < (1e-4 if dtype == torch.float32 else 2e-2)
