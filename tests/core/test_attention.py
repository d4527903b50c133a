"""Fused attention by spans equals dense attention by the mask, in numbers and in gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gistbench.core import attention
from gistbench.core.attention import gist_attention
from gistbench.core.layout import GistLayout
from gistbench.core.mask import dense_mask
from gistbench.core.shares import visible_shares

TOLERANCE = 1e-12
"""Everything here is float64: a wrong pair shows at 1e-3 or more."""


def dense_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """Softmax over the whole square, spelled out. Mask ``(batch, queries, keys)``."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(2, 3) * scaling
    scores = scores.masked_fill(~mask.unsqueeze(1), float("-inf"))
    return scores.softmax(dim=-1) @ value


@st.composite
def cases(
    draw: st.DrawFn,
) -> tuple[GistLayout, int, int | None, torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = draw(st.integers(1, 3))
    prefix, suffix = draw(st.integers(0, 25)), draw(st.integers(1, 9))
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
    window = draw(st.none() | st.integers(1, 40))
    kv_heads, groups = draw(st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 2)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    query, key, value = (
        torch.randn(rows, heads, prefix + suffix, 4, dtype=torch.float64, generator=generator)
        for heads in (kv_heads * groups, kv_heads, kv_heads)
    )
    return layout, suffix, window, query, key, value


def real_slots(layout: GistLayout, suffix: int) -> torch.Tensor:
    slot = torch.arange(layout.prefix_length + suffix)
    return torch.stack(
        [
            torch.where(slot < layout.prefix_length, slot >= a, slot >= layout.prefix_length + b)
            for a, b in zip(layout.prefix_padding, layout.suffix_padding, strict=True)
        ]
    )


@given(cases())
@settings(max_examples=150, deadline=None)
def test_joint_attention_equals_dense_attention(case: tuple) -> None:
    layout, suffix, window, query, key, value = case
    got = gist_attention(query, key, value, layout, scaling=0.7, sliding_window=window)
    mask = dense_mask(layout, suffix, window)
    expected = dense_attention(query, key, value, mask, 0.7)
    real = real_slots(layout, suffix)[:, None, :, None]
    assert got.isfinite().all()
    assert ((got - expected) * real).abs().max() < TOLERANCE


@given(cases())
@settings(max_examples=100, deadline=None)
def test_visible_shares_are_the_weights_that_the_attention_gives_in_one_pass_and_two(
    case: tuple,
) -> None:
    layout, suffix, window, query, key, _ = case
    options = {"scaling": 0.7, "sliding_window": window}
    hidden, prefix = layout.prefix_length - layout.num_visible, layout.prefix_length
    # Values that are unit vectors make the attention's output its weights.
    slots = prefix + suffix
    units = torch.eye(slots, dtype=key.dtype).expand(*key.shape[:2], -1, -1)
    weights = dense_attention(query, key, units, dense_mask(layout, suffix, window), 0.7)
    expected = weights[:, :, prefix:, hidden:prefix]
    real = real_slots(layout, suffix)[:, None, prefix:, None]
    joint = visible_shares(query, key, layout, **options)
    second = visible_shares(
        query[:, :, prefix:], key[:, :, hidden:], layout.at("suffix"), **options
    )
    for shares in (joint, second):
        assert torch.allclose(shares * real, (expected * real).float(), atol=1e-6)


@given(cases(), st.data())
@settings(max_examples=120, deadline=None)
def test_two_stages_in_any_steps_equal_the_joint_one(case: tuple, data: st.DataObject) -> None:
    layout, suffix, window, query, key, value = case
    prefix, hidden = layout.prefix_length, layout.prefix_length - layout.num_visible
    options = {"scaling": 0.7, "sliding_window": window}
    joint = gist_attention(query, key, value, layout, **options)
    parts = []
    if prefix:
        own = (tensor[:, :, :prefix] for tensor in (query, key, value))
        parts.append(gist_attention(*own, layout.at("prefix"), **options))
    done = 0
    while done < suffix:
        end = data.draw(st.integers(done + 1, suffix))
        seen = slice(hidden, prefix + end)
        parts.append(
            gist_attention(
                query[:, :, prefix + done : prefix + end],
                key[:, :, seen],
                value[:, :, seen],
                layout.at("suffix"),
                **options,
            )
        )
        done = end
    real = real_slots(layout, suffix)[:, None, :, None]
    assert ((torch.cat(parts, dim=2) - joint) * real).abs().max() < TOLERANCE


@given(cases())
@settings(max_examples=60, deadline=None)
def test_gradients_equal_those_of_dense_attention(case: tuple) -> None:
    layout, suffix, window, *tensors = case
    real = real_slots(layout, suffix)[:, None, :, None]
    weight = torch.randn_like(tensors[0]) * real
    gradients = []
    for fused in (True, False):
        query, key, value = (tensor.clone().requires_grad_() for tensor in tensors)
        if fused:
            output = gist_attention(query, key, value, layout, scaling=0.7, sliding_window=window)
        else:
            mask = dense_mask(layout, suffix, window)
            output = dense_attention(query, key, value, mask, 0.7)
        gradients.append(torch.autograd.grad((output * weight).sum(), (query, key, value)))
    for got, expected in zip(*gradients, strict=True):
        assert (got - expected).abs().max() < TOLERANCE * 100


@given(cases())
@settings(max_examples=60, deadline=None)
def test_detaching_changes_no_number_and_cuts_every_path_from_the_prefix(case: tuple) -> None:
    layout, _, window, query, key, value = case
    cut = replace(layout, detach_visible=True)
    options = {"scaling": 0.7, "sliding_window": window}
    query, key, value = (tensor.requires_grad_() for tensor in (query, key, value))
    output = gist_attention(query, key, value, cut, **options)
    assert torch.equal(output, gist_attention(query, key, value, layout, **options))
    prefix = layout.prefix_length
    gradients = torch.autograd.grad(output[:, :, prefix:].sum(), (query, key, value))
    for gradient in gradients:
        assert not gradient[:, :, :prefix].any()
    assert gradients[2][:, :, prefix:].any()


def test_context_slots_are_not_among_the_inputs_of_the_suffix() -> None:
    """Not a small weight: a value of infinity in the context would turn any weight into NaN."""
    layout = GistLayout(9, 2, (0,), (0,), "joint")
    query, key, value = (torch.randn(1, 2, 13, 4) for _ in range(3))
    value[:, :, :7] = float("inf")
    key[:, :, :7] = float("nan")
    output = gist_attention(query, key, value, layout, scaling=0.5)
    assert output[:, :, 9:].isfinite().all()


@pytest.mark.parametrize("window", [1, 3, 4, 5, 12, 13, 50])
def test_window_need_not_divide_the_length(window: int) -> None:
    layout = GistLayout(12, 12, (0, 5), (0, 0), "prefix")
    query, key, value = (torch.randn(2, 2, 12, 4, dtype=torch.float64) for _ in range(3))
    got = gist_attention(query, key, value, layout, scaling=0.5, sliding_window=window)
    mask = dense_mask(layout, 0, window)
    expected = dense_attention(query, key, value, mask, 0.5)
    assert (got - expected)[0].abs().max() < TOLERANCE
    assert (got - expected)[1, :, 5:].abs().max() < TOLERANCE


@pytest.mark.parametrize(
    ("stage", "queries", "keys", "rows"),
    [
        ("prefix", 7, 7, 2),
        ("prefix", 8, 9, 2),
        ("joint", 8, 8, 2),
        ("joint", 10, 9, 2),
        ("suffix", 4, 6, 2),
        ("prefix", 8, 8, 3),
        ("joint", 10, 10, 1),
        ("suffix", 4, 7, 1),
    ],
)
def test_tensors_that_do_not_fit_the_layout_are_refused(
    stage: str, queries: int, keys: int, rows: int
) -> None:
    layout = GistLayout(8, 3, (0, 2), (0, 1), stage)  # type: ignore[arg-type]
    query, key = torch.zeros(rows, 2, queries, 4), torch.zeros(rows, 2, keys, 4)
    with pytest.raises(ValueError, match=f"do not fit a {stage} pass of 2 rows with 8 prefix"):
        gist_attention(query, key, key, layout, scaling=1.0)


@pytest.mark.parametrize("broken", ["no suffix mask", "whole prefix", "no window"])
def test_these_comparisons_notice_a_broken_mask(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, window = GistLayout(12, 3, (0, 2), (1, 0), "joint"), 6
    query, key, value = (torch.randn(2, 2, 18, 4, dtype=torch.float64) for _ in range(3))
    expected = dense_attention(query, key, value, dense_mask(layout, 6, window), 0.5)
    real = real_slots(layout, 6)[:, None, :, None]

    def error(seen_layout: GistLayout) -> float:
        got = gist_attention(query, key, value, seen_layout, scaling=0.5, sliding_window=window)
        return float(((got - expected) * real).abs().max())

    assert error(layout) < TOLERANCE
    sound = attention.suffix_mask
    if broken == "no suffix mask":
        monkeypatch.setattr(attention, "suffix_mask", lambda *_: None)
    elif broken == "no window":
        monkeypatch.setattr(attention, "suffix_mask", lambda *args: sound(*args[:3], None, args[4]))
    assert error(replace(layout, num_visible=12) if broken == "whole prefix" else layout) > 1e-3
