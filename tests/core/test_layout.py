"""The layout counts real tokens, and refuses spans that cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gistbench.core.layout import GistLayout, pad_left


def test_positions_count_real_tokens_of_each_row() -> None:
    layout = GistLayout(5, 2, prefix_padding=(0, 2), suffix_padding=(1, 0), stage="joint")
    assert layout.prefix_positions().tolist() == [[0, 1, 2, 3, 4], [0, 0, 0, 1, 2]]
    assert layout.joint_positions(3).tolist() == [
        [0, 1, 2, 3, 4, 0, 5, 6],
        [0, 0, 0, 1, 2, 3, 4, 5],
    ]


def test_question_continues_where_the_gists_ended_not_at_their_number() -> None:
    layout = GistLayout(110, 10, (0,), (0,), stage="suffix")
    assert layout.suffix_positions(0, 3).tolist() == [[110, 111, 112]]
    assert layout.suffix_positions(3, 1).tolist() == [[113]]


def test_suffix_positions_in_steps_equal_those_at_once() -> None:
    layout = GistLayout(7, 2, (0, 3, 7), (4, 0, 2), stage="suffix")
    steps = [layout.suffix_positions(start, 1) for start in range(6)]
    assert torch.equal(torch.cat(steps, dim=1), layout.suffix_positions(0, 6))


def test_visible_padding_is_what_reaches_into_the_visible_slots() -> None:
    assert GistLayout(8, 3, (0, 4, 5), (0, 0, 0), "suffix").visible_padding == (0, 0, 0)
    assert GistLayout(8, 8, (0, 4, 8), (0, 0, 0), "suffix").visible_padding == (0, 4, 8)
    assert GistLayout(8, 3, (6,), (0,), "suffix").visible_padding == (1,)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prefix_padding": (0, 0)}, "one padding per row"),
        ({"num_visible": 6}, "num_visible must lie in 0..5, got 6"),
        ({"num_visible": -1}, "num_visible must lie in 0..5, got -1"),
        ({"prefix_padding": (6,)}, "prefix padding 6"),
        ({"prefix_padding": (-1,)}, "prefix padding -1"),
        ({"suffix_padding": (-2,)}, "suffix padding must not be negative"),
    ],
)
def test_layouts_of_impossible_sizes_are_refused(fields: dict[str, object], words: str) -> None:
    good: dict[str, object] = {
        "prefix_length": 5,
        "num_visible": 2,
        "prefix_padding": (0,),
        "suffix_padding": (0,),
        "stage": "joint",
    }
    with pytest.raises(ValueError, match=words):
        GistLayout(**{**good, **fields})  # type: ignore[arg-type]


def test_rows_are_padded_on_their_left() -> None:
    ids, padding = pad_left([[1, 2, 3], [4], []], pad_id=0)
    assert ids.tolist() == [[1, 2, 3], [0, 0, 4], [0, 0, 0]]
    assert padding == (0, 2, 3)
    assert ids.dtype == torch.long


def test_no_rows_and_empty_rows_have_a_shape() -> None:
    assert pad_left([], 0)[0].shape == (0, 0)
    assert pad_left([[], []], 0)[0].shape == (2, 0)


def test_parts_cover_the_context_once_and_differ_by_one_token_at_most() -> None:
    layout = GistLayout(27, 4, (0, 5, 23), (0, 0, 0), "prefix", segmented=True)
    bounds = layout.segment_bounds()
    assert bounds[:, 0].tolist() == [0, 5, 23]
    assert bounds[:, -1].tolist() == [23, 23, 23]
    lengths = bounds.diff(dim=1)
    assert (lengths.amax(dim=1) - lengths.amin(dim=1)).max() <= 1


def test_a_segmented_gist_stands_where_its_part_ends() -> None:
    layout = GistLayout(12, 2, (0, 4), (0, 0), "prefix", segmented=True)
    positions = layout.prefix_positions()
    assert positions[0].tolist() == [*range(10), 5, 11]
    assert positions[1].tolist() == [0, 0, 0, 0, *range(6), 3, 7]
    # The question goes on where it would without parts.
    assert torch.equal(
        layout.suffix_positions(0, 3), replace(layout, segmented=False).suffix_positions(0, 3)
    )


def test_segments_refuse_padding_among_the_gists() -> None:
    with pytest.raises(ValueError, match="which segments forbid"):
        GistLayout(10, 4, (7,), (0,), "prefix", segmented=True)
