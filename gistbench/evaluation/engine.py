"""A loaded model and an arm: answers batches of prompts and says what each cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from gistbench.arms.base import Arm, Prompt, Reader
from gistbench.core.cache import ContextCache
from gistbench.models.decode import AnswerLoop, answer
from gistbench.models.loading import BaseModel
from gistbench.models.prompts import PromptTokens, cut_at, ends_answer
from gistbench.records import NotMeasured, Phase, Record, Timing

PhaseMarker = Callable[[Phase], AbstractContextManager[object]]


def no_marker(_: Phase) -> AbstractContextManager[object]:
    """Mark no phases."""
    return nullcontext()


class Response(Record):
    """One answered prompt, before it is scored."""

    prompt_sha256: str
    output: str
    output_tokens: int
    context_tokens: int
    question_tokens: int
    cache_tokens: int
    cache_bytes: int
    timing: Timing | NotMeasured
    donor_sample_id: str | None = None


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything that answering needs.

    Attributes:
        base: Tokenizer and size of the vocabulary.
        arm: How contexts are read.
        reader: The model that reads and answers.
        device: Where it runs.
        clock: Seconds, after waiting for the device.
        phase: Marks what the process is doing, for the memory sampler.
        decoding: The loop that answers.
    """

    base: BaseModel
    arm: Arm
    reader: Reader
    device: str
    clock: Callable[[], float]
    phase: PhaseMarker = no_marker
    decoding: AnswerLoop = answer

    def respond(
        self, prompts: Sequence[Prompt], *, until: Sequence[str], max_new_tokens: int
    ) -> list[Response]:
        """Answer one batch greedily, stopping each row at the first of the stop strings.

        A context that several prompts of the batch ask about is read once: the questions after the
        first are put to the very cache that was there before they were known.
        """
        first_with, row_of = self._distinct(prompts)
        with self.phase("compress"):
            start = self.clock()
            read = self.arm.read(self.reader, first_with)
            compress_seconds = self.clock() - start
        cache = read.select(row_of)
        del read
        self.arm.share(self.reader, prompts, cache)
        tokenizer = self.base.tokenizer
        with self.phase("decode"):
            answers = self.decoding(
                self.reader.model,
                cache,
                [prompt.tokens.question for prompt in prompts],
                max_new_tokens=max_new_tokens,
                is_done=ends_answer(tokenizer, until),
                num_text_tokens=self.base.num_text_tokens,
                clock=self.clock,
            )
        timing = Timing(
            batch_size=len(prompts),
            compress_seconds=compress_seconds if self.arm.reads_context else None,
            first_token_seconds=answers.first_token_seconds,
            decode_seconds=answers.decode_seconds,
            decode_steps=answers.decode_steps,
        )
        slots = _real_slots(cache)
        return [
            Response(
                prompt_sha256=prompt.sha256,
                output=cut_at(tokenizer.decode(tokens, skip_special_tokens=True), until),
                output_tokens=len(tokens),
                context_tokens=len(prompt.tokens.context),
                question_tokens=len(prompt.tokens.question),
                cache_tokens=kept,
                cache_bytes=_bytes_per_slot(cache) * kept,
                timing=timing,
                donor_sample_id=(
                    prompt.donor.sample_id if prompt.donor and self.arm.name == "swapped" else None
                ),
            )
            for prompt, tokens, kept in zip(prompts, answers.tokens, slots, strict=True)
        ]

    def _distinct(self, prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[int]]:
        """The first prompt with each context, and for every prompt which of these has its own."""
        if not self.arm.reads_context or self.arm.sees_question:
            return list(prompts), list(range(len(prompts)))
        places: dict[tuple[int, ...], int] = {}
        first_with: list[Prompt] = []
        for prompt in prompts:
            context = tuple(prompt.tokens.context)
            if context not in places:
                places[context] = len(first_with)
                first_with.append(prompt)
        return first_with, [places[tuple(prompt.tokens.context)] for prompt in prompts]

    def hold(self, prompt: Prompt) -> ContextCache:
        """Read one context and hand over its cache, in memory of its own."""
        return self.arm.read(self.reader, [prompt])

    def warm_up(self, prompt: Prompt, *, num_tokens: int = 64) -> None:
        """Run a short prompt through both passes, so that no later time includes start-up."""
        # One more than a budget, so that there is something to drop.
        enough = max(num_tokens, self.arm.least_context_tokens + 1)
        tokens = PromptTokens(prompt.tokens.context[:enough], prompt.tokens.question)
        donor = Prompt("warm-up donor", "", "another", tokens)
        short = Prompt("warm-up", "", "one", tokens, donor=donor)
        reader = replace(self.reader, store=None)
        replace(self, reader=reader, phase=no_marker).respond([short], until=(), max_new_tokens=4)


def _real_slots(cache: ContextCache) -> list[int]:
    return [cache.num_slots - padding for padding in cache.layout.visible_padding]


def _bytes_per_slot(cache: ContextCache) -> int:
    rows_and_slots = cache.layout.batch_size * cache.num_slots
    return cache.num_bytes // rows_and_slots if rows_and_slots else 0
