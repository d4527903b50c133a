"""Gists that read a part of the context each: the proofs that hold for all of it hold for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from gistbench.core.cache import stack
from gistbench.models.decode import read_contexts
from tests.models.test_attention import FLOAT32, context_gradients, difference


@pytest.fixture
def batch(make_batch: Any) -> Any:
    return replace(make_batch(), segmented=True)


def reaches_its_part(model: Any) -> bool:
    """Whether the last of three gists has its part within a sliding window, which ends before it.

    Gemma's layers take turns, and its full ones reach everywhere.
    """
    window = getattr(model.config, "sliding_window", None)
    return window is None or window > 3 or model.config.model_type != "mistral"


@torch.no_grad()
def test_one_pass_two_passes_and_a_dense_mask_give_the_same_logits(
    tiny: Any, passes: Any, batch: Any
) -> None:
    one, masked = passes.one(tiny, batch), passes.masked(tiny, batch)
    for other in (
        passes.two(tiny, batch),
        passes.two(tiny, batch, steps=range(1, 9)),
        passes.two(tiny, batch, steps=(4,)),
        masked,
    ):
        assert difference(one, other, batch.real()) < FLOAT32
    whole = passes.one(tiny, replace(batch, segmented=False))
    assert difference(one, whole, batch.real()) > 1e-2, "the parts made no difference"


@torch.no_grad()
def test_batch_composition_and_padding_change_nothing(tiny: Any, passes: Any, batch: Any) -> None:
    together_one, together_two = passes.one(tiny, batch), passes.two(tiny, batch)
    for row, question in enumerate(batch.questions):
        alone = batch.row(row)
        for got in (together_one, together_two):
            for expected in (passes.one(tiny, alone), passes.two(tiny, alone)):
                assert (got[row, -len(question) :] - expected[0]).abs().max() < FLOAT32


def test_answer_depends_on_the_context_through_the_gists_alone(tiny: Any, make_batch: Any) -> None:
    batch = replace(make_batch((12, 10, 5), (1, 1, 1)), segmented=True)
    context, gists, question = context_gradients(tiny, batch, detach=True)
    assert context.abs().max() == 0
    assert gists.abs().max() == 0
    assert question.abs().max() > 1e-3
    context, gists, _ = context_gradients(tiny, batch, detach=False)
    assert gists.abs().max() > 1e-3
    assert bool(context.abs().max() > 1e-3) == reaches_its_part(tiny)


@torch.no_grad()
def test_a_gist_stores_nothing_that_stands_after_its_part(tiny: Any, make_batch: Any) -> None:
    batch = replace(make_batch((20,), (3,)), segmented=True)
    before = read_contexts(tiny, batch.contexts, gist_ids=batch.gist_ids, segmented=True)
    changed = [[*batch.contexts[0][:14], 1, 2, 3, 4, 5, 6]]
    after = read_contexts(tiny, changed, gist_ids=batch.gist_ids, segmented=True)
    for one, other in zip(
        (*before.keys, *before.values), (*after.keys, *after.values), strict=True
    ):
        assert torch.equal(one[:, :, :2], other[:, :, :2])
    same = torch.equal(before.values[-1][:, :, 2], after.values[-1][:, :, 2])
    assert same != reaches_its_part(tiny)


@torch.no_grad()
def test_one_gist_has_the_whole_context_as_its_part(
    tiny: Any, passes: Any, make_batch: Any
) -> None:
    batch = make_batch(gist_ids=(58,))
    parts = replace(batch, segmented=True)
    assert difference(passes.one(tiny, batch), passes.one(tiny, parts), batch.real()) < FLOAT32
    assert difference(passes.two(tiny, batch), passes.two(tiny, parts), batch.real()) < FLOAT32


def test_segmented_and_other_caches_are_not_stacked(tiny: Any, make_batch: Any) -> None:
    batch = make_batch((8,), (3,))
    caches = [
        read_contexts(tiny, batch.contexts, gist_ids=batch.gist_ids, segmented=segmented)
        for segmented in (False, True)
    ]
    with pytest.raises(ValueError, match="cannot share a batch"):
        stack(caches)
