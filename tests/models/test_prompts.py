"""A prompt is tokenised whole; the split shows each side its own text and nothing is lost."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from gistbench.models.catalog import find_model
from gistbench.models.loading import load_tokenizer, local_folder
from gistbench.models.prompts import ANSWER_END, answer_ids, split_prompt

WORDS = st.text(st.sampled_from("abc ?.\n1é键한🙂"), max_size=30)


@cache
def merging() -> Any:
    """A tokenizer that joins b and c, and d and a space, wherever they meet."""
    vocabulary = {letter: place for place, letter in enumerate("abcd ")} | {"bc": 5, "d ": 6}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("b", "c"), ("d", " ")]))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@cache
def byte_level() -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate(alphabet)}
    vocabulary |= {"Ġa": 300, "ab": 301, "ĠĠ": 302}
    merges = [("Ġ", "a"), ("a", "b"), ("Ġ", "Ġ")]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@cache
def real() -> Any:
    return load_tokenizer(local_folder(find_model("smollm2-135m")))


TOKENIZERS = {"byte-level": byte_level, "smollm2": real}


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@given(context=WORDS, question=WORDS)
@example(context="the end.", question=" What?")
@example(context="the end.\n", question="\n\nWhat?")
@example(context="", question="What?")
@example(context="the end.", question="")
@settings(max_examples=150, deadline=None)
def test_both_halves_are_the_whole(tokenizer: str, context: str, question: str) -> None:
    tokens = TOKENIZERS[tokenizer]()
    try:
        prompt = split_prompt(tokens, context, question)
    except ValueError as error:
        if "a token spans the end of the context" not in str(error):
            raise
        return
    assert prompt.context + prompt.question == tokens(context + question)["input_ids"]
    options = {"clean_up_tokenization_spaces": False}
    assert tokens.decode(prompt.context, **options) == context
    assert tokens.decode(prompt.question, **options) == question


def test_questions_of_the_tasks_begin_where_no_token_can_span() -> None:
    for context in ("The grass is green.", "…of 12345.", "끝.", "done!"):
        prompt = split_prompt(real(), context, "\n\nWhat is the pass key?")
        assert real().decode(prompt.question).startswith("\n\nWhat")


def test_joint_tokenisation_differs_from_separate_and_is_what_counts() -> None:
    prompt = split_prompt(byte_level(), "b", " ab")
    assert prompt.question == [300, byte_level().get_vocab()["b"]]
    assert len(prompt.context) == 1


@pytest.mark.parametrize("context", ["b", ""])
def test_a_beginning_of_text_token_belongs_to_the_context(context: str) -> None:
    tokens = copy.deepcopy(byte_level())
    tokens.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 400)]
    )
    prompt = split_prompt(tokens, context, " ab")
    assert prompt.context[0] == 400
    assert len(prompt.context) == 1 + len(context)
    assert tokens.decode(prompt.question) == " ab"


def test_a_token_that_spans_the_seam_is_refused() -> None:
    assert split_prompt(merging(), "ab", " cd").context == [0, 1]
    with pytest.raises(ValueError, match="begin the question with a space or a line break"):
        split_prompt(merging(), "ab", "cd")


def test_answer_ids_follow_the_prompt() -> None:
    prompt = "The pass key is"
    ids = answer_ids(real(), prompt, "12345")
    assert real().decode(ids) == f" 12345{ANSWER_END}"
    whole = real()(f"{prompt} 12345{ANSWER_END}")["input_ids"]
    assert real()(prompt)["input_ids"] + ids == whole


def test_an_answer_that_changes_the_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="the answer changes the tokens of the prompt"):
        answer_ids(merging(), "abd", "a")
