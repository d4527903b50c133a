"""Claims about adapters that read by other weights than answer."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from gistbench.core.layout import GistLayout
from gistbench.models.adapter import add_adapter, add_gist_rows
from gistbench.models.catalog import find_model
from gistbench.models.checkpoint import load_checkpoint, save_checkpoint
from gistbench.models.decode import answer, continue_layout, no_context, read_contexts
from gistbench.models.loading import BaseModel, load_base
from gistbench.models.static import decoding_loop
from gistbench.models.switch import weights_by_pass
from tests.fixtures.tiny_base import NUM_GISTS, tiny_base, tiny_config

__all__ = ["tiny_base"]

CONTEXTS = [list(range(3, 40)), list(range(50, 75))]
QUESTIONS = [[7, 9, 11, 4], [8, 6]]


def trained(folder: Path, seed: int = 0, **adapter: Any) -> tuple[Any, BaseModel, tuple[int, ...]]:
    """A base model with an adapter that does something."""
    base = load_base(find_model(str(folder)), dtype=torch.float32, device="cpu")
    gist_ids = add_gist_rows(base.model, NUM_GISTS)
    torch.manual_seed(seed)
    model: Any = add_adapter(base.model, tiny_config(folder, adapter=adapter), gist_ids)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model.eval(), base, gist_ids


saved = partial(save_checkpoint, training_summary="by hand", max_trained_context_tokens=1, tasks=())


def answers(model: Any, cache: Any, base: BaseModel, loop: Any = answer) -> list[list[int]]:
    found = loop(
        model,
        cache,
        QUESTIONS,
        max_new_tokens=5,
        is_done=lambda _: False,
        num_text_tokens=base.num_text_tokens,
    )
    tokens: list[list[int]] = found.tokens
    return tokens


@pytest.fixture
def as_it_should_be(tiny_base: Path) -> tuple[Any, list[list[int]]]:
    """Read by a model with its adapter, answered by another one without any."""
    model, base, gist_ids = trained(tiny_base)
    cache = read_contexts(model, CONTEXTS, gist_ids=gist_ids)
    plain = load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu")
    return cache, answers(plain.model, cache, base)


@pytest.mark.parametrize("decoding", ["eager", "static"])
def test_the_adapter_reads_and_the_base_model_answers(
    tiny_base: Path, as_it_should_be: tuple[Any, list[list[int]]], decoding: Any
) -> None:
    expected, told = as_it_should_be
    model, base, gist_ids = trained(tiny_base)
    with_adapter = answers(model, expected, base)
    weights_by_pass(model, "base")
    for _ in range(2):  # and again, after it was switched off
        cache = read_contexts(model, CONTEXTS, gist_ids=gist_ids)
        for mine, right in zip(cache.keys, expected.keys, strict=True):
            torch.testing.assert_close(mine, right, rtol=0, atol=0)
        assert answers(model, cache, base, decoding_loop(decoding)) == told
    assert with_adapter != told, "the two weights answer differently, or nothing is shown"


def test_a_checkpoint_says_what_answers_and_is_loaded_so(
    tiny_base: Path, as_it_should_be: tuple[Any, list[list[int]]], tmp_path: Path
) -> None:
    model, base, gist_ids = trained(tiny_base)
    config = tiny_config(tiny_base, adapter={"answer_with": "base"})
    assert saved(model, base, config, gist_ids, tmp_path).answer_with == "base"
    again = load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu")
    loaded = load_checkpoint(again, tmp_path)
    cache = read_contexts(loaded.model, CONTEXTS, gist_ids=loaded.gist_ids)
    expected, _ = as_it_should_be
    for mine, right in zip(cache.keys, expected.keys, strict=True):
        torch.testing.assert_close(mine, right, rtol=0.02, atol=0.02)  # saved in bfloat16
    plain = load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu")
    assert answers(loaded.model, cache, again) == answers(plain.model, cache, again)


def test_one_pass_cannot_do_both(tiny_base: Path) -> None:
    model, _, gist_ids = trained(tiny_base)
    weights_by_pass(model, "base")
    ids = torch.tensor([[5, 6, *gist_ids, 7]])
    layout = GistLayout(ids.shape[1] - 1, NUM_GISTS, (0,), (0,), stage="joint")
    with pytest.raises(ValueError, match="one pass cannot read by some weights"):
        model(input_ids=ids, layout=layout)


def test_what_was_read_teaches_the_adapter_and_answering_leaves_it_trainable(
    tiny_base: Path,
) -> None:
    model, _, _ = trained(tiny_base)
    weights_by_pass(model, "base")
    trainable = {name for name, weight in model.named_parameters() if weight.requires_grad}
    ids = torch.tensor([[7, 8, 9]])
    empty = GistLayout(0, 0, (0,), (0,), stage="suffix")
    model(input_ids=ids, layout=empty, use_cache=False)
    after = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert after == trainable


def test_behind_a_context_of_nothing_text_is_the_base_models(tiny_base: Path) -> None:
    model, _, _ = trained(tiny_base)
    weights_by_pass(model, "base")
    plain = load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu").model
    ids = torch.tensor([[7, 8, 9]])
    layout = continue_layout(no_context(1), (0,))
    with torch.inference_mode():
        mine, right = (
            m(input_ids=ids, layout=layout, use_cache=False).logits for m in (model, plain)
        )
    torch.testing.assert_close(mine[..., : right.shape[-1]], right, rtol=0, atol=0)


RANK = 4


def own(folder: Path, half: slice = slice(None)) -> tuple[Any, BaseModel, tuple[int, ...]]:
    """A model whose LoRA has a half to read and one to answer; or with one of them alone."""
    model, base, gist_ids = trained(folder, answer_with="own", lora_rank=RANK)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                assert weight.shape[1] == 2 * RANK
                kept = torch.zeros_like(weight)
                kept[:, half] = weight[:, half]
                weight.copy_(kept)
    return model, base, gist_ids


READS, ANSWERS = slice(0, RANK), slice(RANK, 2 * RANK)


@pytest.mark.parametrize("decoding", ["eager", "static"])
def test_one_half_reads_and_the_other_answers(tiny_base: Path, decoding: Any) -> None:
    reader, base, gist_ids = own(tiny_base, READS)
    answering, _, _ = own(tiny_base, ANSWERS)
    expected = read_contexts(reader, CONTEXTS, gist_ids=gist_ids)
    told = answers(answering, expected, base)
    assert answers(reader, expected, base) != told, "both halves answer alike: nothing is shown"
    model, base, gist_ids = own(tiny_base)
    weights_by_pass(model, "own")
    for _ in range(2):
        cache = read_contexts(model, CONTEXTS, gist_ids=gist_ids)
        for mine, right in zip(cache.keys, expected.keys, strict=True):
            torch.testing.assert_close(mine, right)
        assert answers(model, cache, base, decoding_loop(decoding)) == told


@pytest.mark.parametrize("quantised", [False, True])
def test_halves_are_loaded_as_they_were_saved(
    tiny_base: Path, tmp_path: Path, quantised: bool
) -> None:
    model, base, gist_ids = own(tiny_base)
    config = tiny_config(tiny_base, adapter={"answer_with": "own", "lora_rank": RANK})
    assert saved(model, base, config, gist_ids, tmp_path).answer_with == "own"
    weights_by_pass(model, "own")
    again = load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu")
    if quantised:  # whose weights nothing can be added to
        reference = again.reference.model_copy(update={"quantization": "nf4"})
        again = dataclasses.replace(again, reference=reference)
    loaded = load_checkpoint(again, tmp_path, allow_other_precision=True)
    mine = read_contexts(loaded.model, CONTEXTS, gist_ids=loaded.gist_ids)
    right = read_contexts(model, CONTEXTS, gist_ids=gist_ids)
    for one, other in zip(mine.keys, right.keys, strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)  # saved in bfloat16
    ids, layout = torch.tensor([[7, 8, 9]]), continue_layout(no_context(1), (0,))
    with torch.inference_mode():
        one, other = (
            m(input_ids=ids, layout=layout, use_cache=False).logits for m in (loaded.model, model)
        )
    text = slice(0, base.num_text_tokens)
    torch.testing.assert_close(one[..., text], other[..., text], rtol=0.02, atol=0.02)
    assert answers(loaded.model, right, again) == answers(model, right, base)


def test_what_answers_alone_takes_a_gradient_from_text_without_gists(tiny_base: Path) -> None:
    """So a loss on forgetting binds that half, and nothing of what reads."""
    model, _, _ = own(tiny_base)
    weights_by_pass(model, "own")
    ids, layout = torch.tensor([[7, 8, 9]]), continue_layout(no_context(1), (0,))
    model(input_ids=ids, layout=layout, use_cache=False).logits.square().sum().backward()
    matrices = {name: w.grad for name, w in model.named_parameters() if "lora_" in name}
    assert matrices
    for name, gradient in matrices.items():
        gradient = gradient if "lora_A" in name else gradient.T
        assert gradient[READS].abs().max() == 0, name
        assert gradient[ANSWERS].abs().max() > 0, name
