"""The mask is its docstring's drawing; both of its forms follow the definition, pair by pair."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gistbench.core.mask
from gistbench.core.layout import GistLayout
from gistbench.core.mask import dense_mask, suffix_mask


def may_see(layout: GistLayout, row: int, query: int, key: int, window: int | None) -> bool:
    """The definition in words: real, earlier, in the same part or visible, within the window."""
    start = layout.prefix_length
    pad, suffix_pad = layout.prefix_padding[row], layout.suffix_padding[row]

    def real(slot: int) -> bool:
        return slot >= start + suffix_pad if slot >= start else slot >= pad

    first_visible = start - layout.num_visible

    def part(visible: int) -> range:
        """What a segmented gist reads of the context, counted in its tokens."""
        context = first_visible - pad
        return range(
            context * visible // layout.num_visible, context * (visible + 1) // layout.num_visible
        )

    def position(slot: int) -> int:
        if layout.segmented and first_visible <= slot < start:
            return part(slot - first_visible).stop + slot - first_visible
        return slot - pad if slot < start else slot - pad - suffix_pad

    if not real(query):
        return query == key
    if not real(key) or key > query:
        return False
    if query >= start and key < first_visible:
        return False
    is_gist = layout.segmented and first_visible <= query < start
    if is_gist and key < first_visible and key - pad not in part(query - first_visible):
        return False
    return window is None or position(query) - position(key) < window


@st.composite
def layouts(draw: st.DrawFn) -> tuple[GistLayout, int, int | None]:
    rows = draw(st.integers(1, 3))
    prefix, suffix = draw(st.integers(0, 9)), draw(st.integers(1, 6))
    visible, segmented = draw(st.integers(0, prefix)), draw(st.booleans())
    most_padding = prefix - visible if segmented else prefix
    layout = GistLayout(
        prefix_length=prefix,
        num_visible=visible,
        prefix_padding=tuple(draw(st.integers(0, most_padding)) for _ in range(rows)),
        suffix_padding=tuple(draw(st.integers(0, suffix - 1)) for _ in range(rows)),
        stage="joint",
        segmented=segmented,
    )
    return layout, suffix, draw(st.none() | st.integers(1, 17))


def test_mask_is_the_one_drawn_in_its_docstring() -> None:
    lines = (gistbench.core.mask.__doc__ or "").splitlines()
    drawn = [line.split()[1:] for line in lines if line.strip()[:4] in ("c   ", "g   ", "q   ")]
    layout = GistLayout(6, 2, (0,), (0,), "joint")
    whole, parts = (
        [["x" if seen else "." for seen in row] for row in dense_mask(each, 3)[0].tolist()]
        for each in (layout, replace(layout, segmented=True))
    )
    assert whole == drawn[:9]
    assert parts[4:6] == drawn[9:]
    assert parts[:4] + parts[6:] == whole[:4] + whole[6:]


def test_question_cannot_see_context() -> None:
    layout = GistLayout(12, 3, (0, 4), (2, 0), "joint")
    assert not dense_mask(layout, 6)[:, 12:, :9].any()


@given(layouts())
@settings(max_examples=120, deadline=None)
def test_dense_mask_is_the_definition_pair_by_pair(
    case: tuple[GistLayout, int, int | None],
) -> None:
    layout, suffix, window = case
    length = layout.prefix_length + suffix
    expected = [
        [
            [may_see(layout, row, query, key, window) for key in range(length)]
            for query in range(length)
        ]
        for row in range(layout.batch_size)
    ]
    assert dense_mask(layout, suffix, window).tolist() == expected


@given(layouts(), st.data())
@settings(max_examples=120, deadline=None)
def test_suffix_mask_is_the_lower_part_of_the_dense_mask(
    case: tuple[GistLayout, int, int | None], data: st.DataObject
) -> None:
    layout, num_keys, window = case
    num_queries = data.draw(st.integers(1, num_keys))
    mask = suffix_mask(layout, num_queries, num_keys, window, torch.device("cpu"))
    hidden = layout.prefix_length - layout.num_visible
    expected = dense_mask(layout, num_keys, window)[:, -num_queries:, hidden:]
    if mask is None:
        assert expected.all()
    else:
        assert torch.equal(mask.expand_as(expected), expected)


@given(layouts())
@settings(max_examples=60, deadline=None)
def test_no_softmax_is_empty(case: tuple[GistLayout, int, int | None]) -> None:
    assert dense_mask(*case).any(dim=-1).all()


@pytest.mark.parametrize("window", [None, 6])
def test_one_new_token_without_padding_needs_no_mask(window: int | None) -> None:
    layout = GistLayout(50, 3, (0, 20), (0, 0), "suffix")
    assert suffix_mask(layout, 1, 3, window, torch.device("cpu")) is None
    assert suffix_mask(layout, 2, 3, window, torch.device("cpu")) is not None
    if window is not None:
        assert suffix_mask(layout, 1, 4, window, torch.device("cpu")) is not None
