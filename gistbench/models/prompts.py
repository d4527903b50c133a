"""A prompt as token ids: context and question, tokenised together and split at their seam."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

ANSWER_END = "\n"
"""What a trained answer ends with; every task stops there."""


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """Token ids of one prompt.

    Attributes:
        context: What is read before the question is known.
        question: What is asked of the cache.
    """

    context: list[int]
    question: list[int]


def split_prompt(tokenizer: Any, context: str, question: str) -> PromptTokens:
    """Tokenise context + question as one text, then split it where the question begins.

    Both halves together are exactly the ids that a model with full context is given.

    Raises:
        ValueError: A token spans the seam, so that no split shows each side its own text.
    """
    return split_prompts(tokenizer, [(context, question)])[0]


def split_prompts(tokenizer: Any, texts: Sequence[tuple[str, str]]) -> list[PromptTokens]:
    """`split_prompt` for many (context, question) pairs at once, which is faster."""
    encoding = tokenizer(
        [context + question for context, question in texts],
        return_offsets_mapping=True,
        truncation=False,
    )
    return [
        _split(ids, offsets, len(context))
        for ids, offsets, (context, _) in zip(
            encoding["input_ids"], encoding["offset_mapping"], texts, strict=True
        )
    ]


def _split(ids: list[int], offsets: list[tuple[int, int]], seam: int) -> PromptTokens:
    first = next(
        (place for place, (start, end) in enumerate(offsets) if end > seam and end > start),
        len(ids),
    )
    if first < len(ids) and offsets[first][0] < seam:
        raise ValueError(
            "a token spans the end of the context and the start of the question; "
            "begin the question with a space or a line break"
        )
    return PromptTokens(ids[:first], ids[first:])


def token_span(tokenizer: Any, text: str, start: int, end: int) -> tuple[int, int]:
    """Tokens that hold the characters ``start`` to ``end``: the first, and the one after the last.

    Raises:
        ValueError: No token does.
    """
    offsets = tokenizer(text, return_offsets_mapping=True, truncation=False)["offset_mapping"]
    places = [n for n, (first, last) in enumerate(offsets) if first < end and last > start]
    if not places:
        raise ValueError(f"no token holds the characters {start} to {end}")
    return places[0], places[-1] + 1


def answer_ids(tokenizer: Any, prompt: str, answer: str) -> list[int]:
    """Ids of ``" " + answer`` and its end, as they follow the prompt.

    Raises:
        ValueError: The tokenizer joins the prompt's end with the answer's start.
    """
    before = tokenizer(prompt, truncation=False)["input_ids"]
    after = tokenizer(f"{prompt} {answer}{ANSWER_END}", truncation=False)["input_ids"]
    if after[: len(before)] != before:
        raise ValueError("the answer changes the tokens of the prompt before it")
    return list(after[len(before) :])


def ends_answer(tokenizer: Any, until: Sequence[str]) -> Callable[[list[int]], bool]:
    """Whether generated tokens end an answer: by the tokenizer's end token or a stop string."""
    ends = {tokenizer.eos_token_id} - {None}

    def is_done(tokens: list[int]) -> bool:
        if tokens[-1] in ends:
            return True
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        return any(stop in text for stop in until)

    return is_done


def cut_at(text: str, until: Sequence[str]) -> str:
    """The text before the first stop string in it."""
    for stop in until:
        text = text.split(stop, 1)[0]
    return text
