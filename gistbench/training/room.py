"""Whether the samples of a training fit: into its contexts, and into the model's positions."""

from __future__ import annotations

from gistbench.config import TrainConfig
from gistbench.errors import DoesNotFitError, UsageError
from gistbench.models.loading import BaseModel
from gistbench.training.examples import (
    RANDOM_ANSWER_TOKENS,
    RANDOM_QUESTION_TOKENS,
    Example,
    build_example,
)

TRIED = 16
"""Samples of each task, at the shortest length and at the longest."""


def check_room(config: TrainConfig, base: BaseModel) -> int:
    """Refuse, before step 1, a length at which gists or answers would be cut off.

    Returns:
        Supervised tokens per sample, the end of the answer included.

    Raises:
        UsageError: Context, gists, question and answer do not fit.
    """
    longest, supervised = _longest(config, base)
    gists = f"{config.num_gists} gists, " if config.num_gists else ""
    if config.data.max_length is not None and longest > config.data.max_length:
        raise UsageError(
            f"data.max_length {config.data.max_length:,} would cut off "
            f"{'gists or answers' if gists else 'answers'}: context, {gists}question and answer "
            f"take {longest:,} tokens; set --data.max-length {longest} or a shorter "
            "--data.context-tokens"
        )
    if longest > base.max_positions:
        more = f", or --max-positions {longest}" if config.weights == "random" else ""
        raise UsageError(
            f"{longest:,} tokens of context, {gists}question and answer exceed the "
            f"{base.max_positions:,} positions of {config.base.name}; choose --data.context-tokens "
            f"{config.data.context_tokens - (longest - base.max_positions)} or less{more}"
        )
    if config.data.position_span is not None:
        _check_span(config, base, config.data.position_span, longest - config.data.context_tokens)
    return supervised


def _check_span(config: TrainConfig, base: BaseModel, span: int, behind: int) -> None:
    """Refuse a span that leaves no gap, or a gap that the model cannot have.

    Args:
        config: Of the training.
        base: Its base model.
        span: Positions of a context.
        behind: Those of gists, question and answer.
    """
    if config.weights == "random":
        raise UsageError(
            "data.position_span is for what is learned, and random weights learn nothing; leave it "
            "out"
        )
    if config.adapter.gist_view == "segments":
        raise UsageError(
            "data.position_span moves contexts away from their gists, and adapter.gist_view "
            "segments puts each gist behind its own part; leave one of them out"
        )
    fields = base.model.config.to_dict()
    window = fields.get("sliding_window")
    # Windows are counted in slots, which a gap does not have.
    if window is not None and fields.get("use_sliding_window", True) and window < span + behind:
        raise UsageError(
            f"data.position_span {span:,} would let layers of {config.base.name} see further than "
            f"their {window:,} tokens; leave it out"
        )
    most = base.max_positions - behind
    if not config.data.context_tokens < span <= most:
        raise UsageError(
            f"data.position_span {span:,} must be above data.context_tokens "
            f"{config.data.context_tokens:,} and at most the {most:,} positions that "
            f"{config.base.name} has before gists, question and answer; mend --data.position-span"
        )


def _longest(config: TrainConfig, base: BaseModel) -> tuple[int, int]:
    """Tokens of the longest sequence of those tried, and supervised tokens of an answer."""
    if config.weights == "random":
        drawn = config.data.context_tokens + RANDOM_QUESTION_TOKENS + RANDOM_ANSWER_TOKENS
        return drawn + config.num_gists, RANDOM_ANSWER_TOKENS
    # The shortest first stage too, with some of its needles: workers build them, much later.
    lengths = (*config.data.curriculum, config.data.context_tokens)
    shortest = int(min(lengths) * (1 - config.data.length_jitter))
    examples = [
        example
        for task in config.data.tasks
        for length in (shortest, config.data.context_tokens)
        for example in _those_that_fit(config, base, task, length)
    ]
    longest = max(example.num_tokens for example in examples) + config.num_gists
    return longest, max(example.num_answer_tokens for example in examples)


def _those_that_fit(
    config: TrainConfig, base: BaseModel, task: str, context_tokens: int
) -> list[Example]:
    """Samples of a task; where they are fresh, rare ones that do not fit are drawn again."""
    may_fail = TRIED // 4 if config.data.num_samples is None else 0
    examples: list[Example] = []
    for index in range(TRIED):
        try:
            example = build_example(
                base.tokenizer,
                task=task,
                context_tokens=context_tokens,
                index=index,
                seed=config.training.seed,
                num_questions=config.data.questions_per_context,
            )
        except DoesNotFitError as error:
            if index - len(examples) >= may_fail:
                where = "data.context_tokens or data.curriculum"
                raise UsageError(f"{where}: {error}") from error
        else:
            examples.append(example)
    return examples
