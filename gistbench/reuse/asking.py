"""Questions to compressed texts, all of them answered in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gistbench import generators
from gistbench.core.cache import ContextCache, stack
from gistbench.errors import TooLongError
from gistbench.models.decode import answer
from gistbench.models.gist_file import read_context
from gistbench.models.origin import ContextOrigin, origin_of
from gistbench.models.prompts import cut_at, ends_answer
from gistbench.reuse.model import Compressor
from gistbench.reuse.text import question_tokens

MAX_NEW_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Saved:
    """A compressed text that was read from its file."""

    path: Path
    cache: ContextCache
    origin: ContextOrigin


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer.

    Attributes:
        path: The file that was asked.
        question: As it was put.
        text: The answer.
        num_tokens: Of the answer.
    """

    path: Path
    question: str
    text: str
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Replies:
    """All answers, files outside and questions inside, and the time of the batch in seconds."""

    replies: list[Reply]
    seconds: float


def read_saved(path: Path) -> Saved:
    """Read a file that `gistbench compress` wrote.

    Raises:
        UsageError: It is none, is damaged, or was changed.
    """
    cache, metadata = read_context(path)
    return Saved(path, cache, origin_of(metadata, path))


def ask(
    compressor: Compressor,
    contexts: Sequence[Saved],
    questions: Sequence[str],
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Replies:
    """Put every question to every compressed text, greedily, in one batch.

    Args:
        compressor: What the files were written with; see `load_compressor_of`.
        contexts: Of any lengths.
        questions: As a person writes them.
        max_new_tokens: Tokens of an answer at most; it also ends where those of `own_jsonl` do.

    Raises:
        TooLongError: The model has no positions for a question and its answer.
        UsageError: A question is empty.
    """
    tokenizer = compressor.base.tokenizer
    asked = [question_tokens(tokenizer, question) for question in questions]
    most = compressor.base.max_positions
    for saved in contexts:
        ends = saved.cache.layout.suffix_positions(0, 1).item()
        needed = int(ends) + max(map(len, asked)) + max_new_tokens
        if needed > most:
            raise TooLongError(
                f"{saved.path} with question and answer needs {needed:,} positions, "
                f"{compressor.base.reference.name} has {most:,}; shorten the question or pass "
                "a smaller --max-new-tokens"
            )
    until = generators.stop_strings(generators.OWN_DATA)
    start = compressor.seconds()
    joined = stack([_on(saved.cache, compressor.device) for saved in contexts])
    pairs = [(file, asked_one) for file in range(len(contexts)) for asked_one in range(len(asked))]
    answers = answer(
        compressor.trained.model,
        joined.select([file for file, _ in pairs]),
        [asked[which] for _, which in pairs],
        max_new_tokens=max_new_tokens,
        is_done=ends_answer(tokenizer, until),
        num_text_tokens=compressor.base.num_text_tokens,
    )
    seconds = compressor.seconds() - start
    replies = [
        Reply(
            contexts[file].path,
            questions[which],
            cut_at(tokenizer.decode(tokens, skip_special_tokens=True), until).strip(),
            len(tokens),
        )
        for (file, which), tokens in zip(pairs, answers.tokens, strict=True)
    ]
    return Replies(replies, seconds)


def _on(cache: ContextCache, device: str) -> ContextCache:
    return ContextCache(
        tuple(key.to(device) for key in cache.keys),
        tuple(value.to(device) for value in cache.values),
        cache.layout,
    )
