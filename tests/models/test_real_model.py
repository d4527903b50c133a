"""The same proofs on SmolLM2-135M-Instruct, the model that ships with the demonstration."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from gistbench.models.adapter import add_gist_rows
from gistbench.models.catalog import architecture_of, find_model
from gistbench.models.decode import answer, read_contexts
from gistbench.models.loading import BaseModel, load_base

CONTEXT_TOKENS = 300
FLOAT32 = 1e-4
"""Relative to the largest logit, about 31. Differences up to 1.4e-5 were seen; float32 itself is
about 1e-5 from float64 here, in either attention function."""

BFLOAT16_TIE = 4.0
"""Margin of the float32 logits above which bf16 must choose the same token. This model's logits in
bf16 are up to 8 from those in float32, whatever attention computes them."""


@pytest.fixture(scope="module")
def smollm2() -> BaseModel:
    return load_base(find_model("smollm2-135m"), dtype=torch.float32, device="cpu")


@pytest.fixture(scope="module")
def gist_ids(smollm2: BaseModel) -> tuple[int, ...]:
    return add_gist_rows(smollm2.model, 10)


@pytest.fixture
def batch(smollm2: BaseModel, gist_ids: tuple[int, ...], make_batch: Callable[..., Any]) -> Any:
    """Text, left-padded in both parts: contexts of 300 and 120 tokens, two questions."""
    text = "The grass is green and the sky is blue. Here we go, there and back again. " * 20
    context = smollm2.tokenizer(text)["input_ids"]
    question = smollm2.tokenizer("\n\nWhat is the colour of the grass? The grass is")["input_ids"]
    drawn = make_batch(gist_ids=gist_ids)
    return replace(
        drawn,
        contexts=[context[:CONTEXT_TOKENS], context[:120]],
        questions=[question, question[4:]],
    )


def test_catalogued_architecture_is_that_of_the_weights(smollm2: BaseModel) -> None:
    found = AutoConfig.from_pretrained(smollm2.folder)
    for name, value in (architecture_of("smollm2-135m") or {}).items():
        if name == "rope_parameters":
            assert found.rope_parameters["rope_theta"] == value["rope_theta"]
        else:
            assert getattr(found, name) == (
                pytest.approx(value) if name == "rms_norm_eps" else value
            )


@torch.no_grad()
def test_one_pass_equals_two_passes_and_the_ordinary_masked_model(
    smollm2: BaseModel, batch: Any, passes: Any
) -> None:
    model, real = smollm2.model, batch.real()
    one = passes.one(model, batch)
    largest = one[real].abs().max()
    assert largest > 10, "logits of a trained model"
    for other in (
        passes.two(model, batch),
        passes.two(model, batch, steps=(1, 2, 9)),
        passes.masked(model, batch),
    ):
        assert (one - other)[real].abs().max() < FLOAT32 * largest


def test_full_context_answers_equal_transformers_generate(smollm2: BaseModel, passes: Any) -> None:
    tokenizer, model = smollm2.tokenizer, smollm2.model
    context = tokenizer("The grass is green. The pass key is 48213. Remember it. ")["input_ids"]
    question = tokenizer("\nWhat is the pass key? The pass key is")["input_ids"]
    answers = answer(
        model,
        read_contexts(model, [context, context[8:]], keep_all=True),
        [question, question],
        max_new_tokens=8,
        is_done=lambda tokens: False,
        num_text_tokens=smollm2.num_text_tokens,
    ).tokens
    plain = passes.ordinary(model)
    for row, ids in enumerate(([*context, *question], [*context[8:], *question])):
        prompt = torch.tensor([ids])
        output = plain.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=8,
            eos_token_id=-1,
        )
        assert answers[row] == output[0, len(ids) :].tolist()
    assert "48213" in tokenizer.decode(answers[0])


def test_compressed_cache_of_300_tokens_is_450_kib(
    smollm2: BaseModel, batch: Any, gist_ids: tuple[int, ...]
) -> None:
    context = read_contexts(smollm2.model, batch.contexts, gist_ids=gist_ids)
    assert context.num_slots == 10
    assert context.row(0).num_bytes == 30 * 2 * 3 * 10 * 64 * 4


@torch.no_grad()
def test_bfloat16_chooses_the_same_tokens(smollm2: BaseModel, batch: Any, passes: Any) -> None:
    exact, real = passes.one(smollm2.model, batch), batch.real()
    model = copy.deepcopy(smollm2.model).to(torch.bfloat16)
    one, two = passes.one(model, batch), passes.two(model, batch)
    assert torch.equal(one.argmax(-1)[real], two.argmax(-1)[real])
    best = exact.topk(2, dim=-1).values
    clear = real & (best[..., 0] - best[..., 1] > BFLOAT16_TIE)
    assert clear.sum() >= 4
    for other in (passes.two(model, batch, steps=(1, 2, 9)), passes.masked(model, batch), exact):
        assert torch.equal(one.argmax(-1)[clear], other.argmax(-1)[clear])
