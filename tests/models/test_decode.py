"""One greedy loop for every arm: it equals `generate`, and leaves its cache as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from gistbench.core.cache import ContextCache, stack
from gistbench.models.decode import Answers, answer, no_context, read_contexts

NEW_TOKENS = 8


def never(_: list[int]) -> bool:
    return False


def ask(
    model: Any, context: ContextCache, questions: Sequence[Sequence[int]], **options: Any
) -> Answers:
    settings = {
        "max_new_tokens": NEW_TOKENS,
        "is_done": never,
        "num_text_tokens": model.config.vocab_size,
    }
    return answer(model, context, questions, **{**settings, **options})


def generate(plain: Any, ids: list[int], num_tokens: int = NEW_TOKENS) -> list[int]:
    """transformers' own greedy generation of an ordinary model."""
    prompt = torch.tensor([ids])
    output = plain.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=num_tokens,
        pad_token_id=0,
    )
    return output[0, len(ids) :].tolist()


def test_full_context_answers_equal_transformers_generate(
    tiny: Any, make_batch: Any, passes: Any
) -> None:
    batch = make_batch((21, 12, 4, 30), (9, 2, 6, 1))
    context = read_contexts(tiny, batch.contexts, keep_all=True)
    answers = ask(tiny, context, batch.questions).tokens
    plain = passes.ordinary(tiny)
    expected = [
        generate(plain, [*context_ids, *question])
        for context_ids, question in zip(batch.contexts, batch.questions, strict=True)
    ]
    assert answers == expected


def test_answers_without_context_equal_transformers_generate(
    tiny: Any, make_batch: Any, passes: Any
) -> None:
    questions = make_batch().questions
    plain = passes.ordinary(tiny)
    assert ask(tiny, no_context(4), questions).tokens == [generate(plain, q) for q in questions]


@torch.no_grad()
def test_gist_answers_equal_greedy_choices_of_the_masked_ordinary_model(
    tiny: Any, make_batch: Any, passes: Any
) -> None:
    """No cache on the other side: the whole masked sequence is computed anew for each token."""
    batch = make_batch()
    context = read_contexts(tiny, batch.contexts, gist_ids=batch.gist_ids)
    tokens = ask(tiny, context, batch.questions, max_new_tokens=4).tokens
    for row in range(4):
        alone = batch.row(row)
        for token in tokens[row]:
            assert passes.masked(tiny, alone)[0, -1].argmax() == token
            alone.questions[0] = [*alone.questions[0], token]


def test_answers_do_not_depend_on_the_batch(tiny: Any, make_batch: Any) -> None:
    batch = make_batch()
    for options in ({"gist_ids": batch.gist_ids}, {"keep_all": True, "gist_ids": (58,)}):
        together = ask(tiny, read_contexts(tiny, batch.contexts, **options), batch.questions)
        for row in range(4):
            alone = batch.row(row)
            context = read_contexts(tiny, alone.contexts, **options)
            assert ask(tiny, context, alone.questions).tokens == [together.tokens[row]]


def test_answers_do_not_depend_on_which_batch_compressed_the_context(
    tiny: Any, make_batch: Any
) -> None:
    """Rows taken from one batch and stacked into another, in another order."""
    batch = make_batch()
    context = read_contexts(tiny, batch.contexts, gist_ids=batch.gist_ids)
    expected = ask(tiny, context, batch.questions).tokens
    order = (2, 0, 3)
    restacked = stack([context.row(row) for row in order])
    got = ask(tiny, restacked, [batch.questions[row] for row in order]).tokens
    assert got == [expected[row] for row in order]


@pytest.mark.parametrize("keep_all", [False, True])
def test_second_question_finds_the_cache_as_the_first_did(
    tiny: Any, make_batch: Any, keep_all: bool
) -> None:
    batch, other = make_batch(), make_batch(seed=2)
    options = {"gist_ids": batch.gist_ids, "keep_all": keep_all}
    context = read_contexts(tiny, batch.contexts, **options)
    before = [tensor.clone() for tensor in (*context.keys, *context.values)]
    ask(tiny, context, batch.questions)
    second = ask(tiny, context, other.questions).tokens
    fresh = read_contexts(tiny, batch.contexts, **options)
    assert second == ask(tiny, fresh, other.questions).tokens
    after = (*context.keys, *context.values)
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_answers_depend_on_the_context(tiny: Any, make_batch: Any) -> None:
    lengths = ((9,) * 8, (1,) * 8)
    batch, other = make_batch(*lengths), make_batch(*lengths, seed=2)
    answers = [
        ask(tiny, read_contexts(tiny, contexts, gist_ids=batch.gist_ids), batch.questions).tokens
        for contexts in (batch.contexts, other.contexts)
    ]
    assert answers[0] != answers[1]


# -------------------------------------------------------------------------------------------- ends


def test_rows_stop_on_their_own_and_keep_the_token_that_ended_them(
    make_tiny: Any, make_batch: Any
) -> None:
    model, batch = make_tiny("llama"), make_batch()
    context = read_contexts(model, batch.contexts, gist_ids=batch.gist_ids)
    full = ask(model, context, batch.questions).tokens
    ends = {tuple(tokens[: row + 1]) for row, tokens in enumerate(full)}
    stopped = ask(model, context, batch.questions, is_done=lambda t: tuple(t) in ends)
    assert stopped.tokens == [tokens[: row + 1] for row, tokens in enumerate(full)]
    assert stopped.decode_steps == 3


def test_decoding_ends_when_every_row_is_done(make_tiny: Any, make_batch: Any) -> None:
    model, batch = make_tiny("llama"), make_batch()
    context = read_contexts(model, batch.contexts, gist_ids=batch.gist_ids)
    answers = ask(model, context, batch.questions, is_done=lambda tokens: True)
    assert [len(tokens) for tokens in answers.tokens] == [1, 1, 1, 1]
    assert answers.decode_steps == 0


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_answer_is_longer_than_its_limit(make_tiny: Any, make_batch: Any, limit: int) -> None:
    model, batch = make_tiny("llama"), make_batch()
    context = read_contexts(model, batch.contexts, gist_ids=batch.gist_ids)
    answers = ask(model, context, batch.questions, max_new_tokens=limit)
    assert [len(tokens) for tokens in answers.tokens] == [limit] * 4
    assert answers.decode_steps == limit - 1


@torch.no_grad()
def test_gist_rows_are_never_generated(make_tiny: Any, make_batch: Any) -> None:
    model, batch = make_tiny("llama"), make_batch()
    context = read_contexts(model, batch.contexts, gist_ids=batch.gist_ids)
    text = ask(model, context, batch.questions, num_text_tokens=58).tokens
    # Make a gist row the loudest wherever some text row is loud.
    model.lm_head.weight[58] = 50 * model.lm_head.weight[text[0][0]]
    assert ask(model, context, batch.questions).tokens[0][0] == 58
    answers = ask(model, context, batch.questions, num_text_tokens=58).tokens
    assert answers == text
    assert all(token < 58 for tokens in answers for token in tokens)


def test_times_are_those_of_the_clock_given(make_tiny: Any, make_batch: Any) -> None:
    model, batch = make_tiny("llama"), make_batch()
    context = read_contexts(model, batch.contexts, gist_ids=batch.gist_ids)
    ticks = iter([10.0, 12.5, 17.5])
    answers = ask(model, context, batch.questions, clock=lambda: next(ticks))
    assert answers.first_token_seconds == 2.5
    assert answers.decode_seconds == 5.0
    assert answers.decode_steps == NEW_TOKENS - 1


def test_questions_must_match_their_contexts(make_tiny: Any, make_batch: Any) -> None:
    model, batch = make_tiny("llama"), make_batch()
    context = read_contexts(model, batch.contexts, gist_ids=batch.gist_ids)
    with pytest.raises(ValueError, match="one padding per row"):
        ask(model, context, batch.questions[:2])


def test_what_hooks_leave_is_held_against_what_they_were_to_leave(make_tiny: Any) -> None:
    """As a kvpress press does it: a hook on each attention layer drops slots once it has run."""
    model = make_tiny("llama")
    left = [7, 7]

    def drop(module: Any, _: Any, kwargs: Any, output: Any) -> Any:
        layer = kwargs["past_key_values"].layers[module.layer_idx]
        first = layer.keys.shape[2] - left[module.layer_idx]
        layer.keys, layer.values = layer.keys[:, :, first:], layer.values[:, :, first:]
        return output

    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(drop, with_kwargs=True)
    read = read_contexts(model, [range(20)], keep_all=True, num_left=7)
    assert (read.num_slots, read.layout.prefix_length) == (7, 20)
    left[1] = 6
    with pytest.raises(ValueError, match="7 visible slots cannot hold 6"):
        read_contexts(model, [range(20)], keep_all=True, num_left=7)
    with pytest.raises(ValueError, match="rows of one length"):
        read_contexts(model, [range(20), range(19)], keep_all=True, num_left=7)
