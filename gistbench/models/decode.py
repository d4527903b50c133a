"""Two passes for every arm: read a context into a cache, then answer greedily from it.

All arms of a run answer through one loop. They differ in the cache that it starts from. `answer` is
the reference; `gistbench.models.static` has a faster loop that must generate the same tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from gistbench.core.cache import ContextCache
from gistbench.core.layout import GistLayout, pad_left
from gistbench.models.cache import collected, open_cache
from gistbench.models.reading import read_prefix

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Answers:
    """Greedy continuations of one batch.

    Attributes:
        tokens: For each row the generated ids, the one that ended the answer included.
        first_token_seconds: From the question to the first token, for the batch.
        decode_seconds: The remaining steps, for the batch.
        decode_steps: Forward passes in `decode_seconds`.
    """

    tokens: list[list[int]]
    first_token_seconds: float
    decode_seconds: float
    decode_steps: int


class AnswerLoop(Protocol):
    """The second pass: `answer`, or what generates the same tokens faster."""

    def __call__(
        self,
        model: torch.nn.Module,
        context: ContextCache,
        questions: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        is_done: Callable[[list[int]], bool],
        num_text_tokens: int,
        clock: Clock = time.perf_counter,
    ) -> Answers:
        """As `answer`."""


class Rows:
    """The tokens of each row so far; a row that is done takes no more.

    Attributes:
        tokens: Ids of each row.
    """

    def __init__(self, num_rows: int, is_done: Callable[[list[int]], bool]) -> None:
        self.tokens: list[list[int]] = [[] for _ in range(num_rows)]
        self._done = [False] * num_rows
        self._is_done = is_done

    def take(self, newest: Sequence[int]) -> None:
        """One more token for each row."""
        for row, token in enumerate(newest):
            if not self._done[row]:
                self.tokens[row].append(token)
                self._done[row] = self._is_done(self.tokens[row])

    @property
    def all_done(self) -> bool:
        """Whether no row goes on."""
        return all(self._done)


@torch.inference_mode()
def read_contexts(
    model: torch.nn.Module,
    contexts: Sequence[Sequence[int]],
    *,
    gist_ids: Sequence[int] = (),
    keep_all: bool = False,
    segmented: bool = False,
    num_left: int | None = None,
    chunk_tokens: int | None = None,
) -> ContextCache:
    """The first pass: read contexts, keep the gists' keys and values, or all of them.

    Args:
        model: A causal language model with the gist attention.
        contexts: Token ids of each row.
        gist_ids: Ids of the gist tokens, appended to every context.
        keep_all: Keep every slot (full context) instead of the gists alone.
        segmented: Each gist reads its own part of the context; see `GistLayout`.
        num_left: Slots of each row that hooks on the model's layers leave of those kept; None
            without such hooks. They know nothing of padding, nor of chunks.
        chunk_tokens: Read so many slots at a time; the same result from less memory, see
            `gistbench.models.reading`.

    Returns:
        A cache of ``len(gist_ids)`` slots a row, of the longest context's length, or ``num_left``.

    Raises:
        ValueError: Hooks would see padding, or left another number of slots in some layer.
    """
    device = next(model.parameters()).device
    rows = [[*context, *gist_ids] for context in contexts]
    ids, padding = pad_left(rows, pad_id=0, device=device)
    if num_left is not None and (any(padding) or chunk_tokens is not None):
        raise ValueError(
            f"rows of one length are needed, read at once, got padding {padding} and chunks of "
            f"{chunk_tokens}"
        )
    layout = GistLayout(
        prefix_length=ids.shape[1],
        num_visible=ids.shape[1] if keep_all else len(gist_ids),
        prefix_padding=padding,
        suffix_padding=(0,) * len(rows),
        stage="prefix",
        segmented=segmented,
    )
    cache = read_prefix(model, ids, layout, chunk_tokens=chunk_tokens)
    left = layout if num_left is None else replace(layout, num_visible=num_left)
    return collected(cache, left)


def no_context(num_rows: int) -> ContextCache:
    """The cache of having read nothing."""
    empty = (0,) * num_rows
    return ContextCache((), (), GistLayout(0, 0, empty, empty, stage="suffix"))


def continue_layout(context: ContextCache, suffix_padding: tuple[int, ...]) -> GistLayout:
    """The layout of a suffix that follows a cached context."""
    return replace(context.layout, suffix_padding=suffix_padding, stage="suffix")


@torch.inference_mode()
def answer(
    model: torch.nn.Module,
    context: ContextCache,
    questions: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    is_done: Callable[[list[int]], bool],
    num_text_tokens: int,
    clock: Clock = time.perf_counter,
) -> Answers:
    """The second pass: answer greedily from a cache.

    Args:
        model: A causal language model with the gist attention.
        context: One cached context per question.
        questions: Token ids of each row.
        max_new_tokens: Tokens at most.
        is_done: Whether the tokens generated so far end the answer.
        num_text_tokens: Vocabulary rows that stand for text; gist rows are never generated.
        clock: Seconds; a clock that waits for the device makes the times true.
    """
    device = next(model.parameters()).device
    ids, padding = pad_left(questions, pad_id=0, device=device)
    layout = continue_layout(context, padding)
    cache = open_cache(context, room=ids.shape[1] + max_new_tokens)
    rows = Rows(len(questions), is_done)
    start = clock()
    first_token = start
    steps = 0
    processed = 0
    for step in range(max_new_tokens):
        logits = model(
            input_ids=ids,
            position_ids=layout.suffix_positions(processed, ids.shape[1], device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            layout=layout,
        ).logits
        processed += ids.shape[1]
        best = logits[:, -1, :num_text_tokens].argmax(dim=-1)
        rows.take(best.tolist())
        if step == 0:
            first_token = clock()
        else:
            steps += 1
        if rows.all_done:
            break
        ids = best.unsqueeze(1)
    return Answers(rows.tokens, first_token - start, clock() - first_token, steps)
