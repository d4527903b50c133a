"""Decoding speed: full and gist caches, static and eager, taking turns in one process."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median

import torch

from gistbench.config import Decoding, Quantization
from gistbench.core.cache import ContextCache, stack
from gistbench.core.operations import decoding_bytes
from gistbench.errors import UsageError
from gistbench.models.decode import AnswerLoop, Answers, read_contexts
from gistbench.models.memory import OUT_OF_MEMORY, is_out_of_memory
from gistbench.models.random_weights import random_ids
from gistbench.models.static import decoding_loop
from gistbench.records import NotMeasured
from gistbench.speed.arm_model import ArmModel
from gistbench.speed.floors import countable
from gistbench.speed.profile import LastLook, Profiler
from gistbench.speed.records import DecodingSpeed, Profile, Rates, SkippedSide
from gistbench.speed.settings import DecodedArm, DecodeSpeedConfig
from gistbench.speed.unpacking import unpacked_parameters

Clock = Callable[[], float]


@dataclass(slots=True)
class Side:
    """One arm and one loop, and what its rounds took."""

    arm: DecodedArm
    decoding: Decoding
    loop: AnswerLoop
    rounds: list[Answers] = field(default_factory=list)
    profile: Profile | NotMeasured | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """All sides of one precision and batch size, as far as they are measured.

    Attributes:
        rounds_done: Of those that count.
        is_whole: Nothing is to come.
    """

    quantization: Quantization
    batch_size: int
    sides: tuple[DecodingSpeed | SkippedSide, ...]
    rounds_done: int
    is_whole: bool


def measure_decoding(
    settings: DecodeSpeedConfig,
    models: dict[DecodedArm, ArmModel],
    quantization: Quantization,
    rates: Rates,
    device: str,
    clock: Clock,
    *,
    profiled: bool = False,
) -> Iterator[Measured]:
    """Every batch size at one precision, all sides of each alternating round by round.

    What is generated decides nothing: every side runs the same number of steps.

    Args:
        settings: What to measure.
        models: Of each arm.
        quantization: Of their weights.
        rates: Of the device, for the floors.
        device: Where.
        clock: Seconds, waiting for the device.
        profiled: Trace each side once all rounds are done.

    Yields:
        A batch size after each of its rounds, and once more when it is whole.

    Raises:
        UsageError: The model has fewer positions than the contexts need.
    """
    for arm in models.values():
        if settings.longest > arm.base.max_positions:
            more = " or pass --max-positions" if settings.weights == "random" else ""
            raise UsageError(
                f"{settings.longest:,} tokens of context, gists, question and answer exceed the "
                f"{arm.base.max_positions:,} positions of {arm.base.reference.name}; lower "
                f"--context-tokens{more}"
            )
    for batch_size in settings.sizes:
        profiled_on = device if profiled else None
        # What the sides of one batch size keep must be gone before the next is tried.
        yield from _one_batch_size(
            settings, models, quantization, batch_size, rates, clock, profiled_on
        )
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()


def _one_batch_size(
    settings: DecodeSpeedConfig,
    models: dict[DecodedArm, ArmModel],
    quantization: Quantization,
    batch_size: int,
    rates: Rates,
    clock: Clock,
    profiled_on: str | None,
) -> Iterator[Measured]:
    sides = [Side(arm, decoding, decoding_loop(decoding)) for arm, decoding in settings.sides]
    contexts: dict[DecodedArm, ContextCache] = {}
    # Found out while nothing else is on the device.
    unpacked = {arm: unpacked_parameters(it.model, batch_size) for arm, it in models.items()}

    def measured(*, is_whole: bool) -> Measured:
        records = tuple(
            _record(settings, models, contexts, sides, side, quantization, rates, unpacked)
            for side in sides
        )
        return Measured(quantization, batch_size, records, len(sides[0].rounds), is_whole)

    try:
        for arm in settings.arm_names:
            contexts[arm] = _contexts(settings, models[arm], batch_size)
        for _ in _take_turns(settings, models, contexts, sides, clock):
            yield measured(is_whole=False)
    except OUT_OF_MEMORY as error:
        if not is_out_of_memory(error):
            raise
        skipped = _skipped(sides, quantization, batch_size)
    else:
        if profiled_on is not None:
            for side in sides:
                ask = _asking(settings, models[side.arm], contexts[side.arm], side)
                side.profile = _profiled(ask, Profiler(profiled_on), clock, settings.new_tokens)
        yield measured(is_whole=True)
        return
    yield Measured(quantization, batch_size, skipped, 0, is_whole=True)


def _skipped(
    sides: list[Side], quantization: Quantization, batch_size: int
) -> tuple[SkippedSide, ...]:
    reason = f"{batch_size} contexts of every side at once do not fit on this GPU"
    return tuple(
        SkippedSide(
            arm=side.arm,
            decoding=side.decoding,
            quantization=quantization,
            batch_size=batch_size,
            reason=NotMeasured(not_measured=reason),
        )
        for side in sides
    )


def _contexts(settings: DecodeSpeedConfig, arm: ArmModel, batch_size: int) -> ContextCache:
    """One context, read once and held as often as the batch has rows: each in its own memory."""
    ids = random_ids(settings.context_tokens, arm.base.num_text_tokens, settings.seed)
    one = read_contexts(
        arm.model,
        [ids],
        gist_ids=arm.gist_ids,
        keep_all=not arm.gist_ids,
        segmented=arm.segmented,
    )
    return stack([one] * batch_size)


def _take_turns(
    settings: DecodeSpeedConfig,
    models: dict[DecodedArm, ArmModel],
    contexts: dict[DecodedArm, ContextCache],
    sides: list[Side],
    clock: Clock,
) -> Iterator[None]:
    """A round that does not count, then those that do; every other one in the reverse order."""
    for round_index in range(settings.rounds + 1):
        for side in sides if round_index % 2 else reversed(sides):
            answers = _asking(settings, models[side.arm], contexts[side.arm], side)(clock)
            if round_index:
                side.rounds.append(answers)
        if round_index:
            yield


def _asking(
    settings: DecodeSpeedConfig, arm: ArmModel, context: ContextCache, side: Side
) -> Callable[[Clock], Answers]:
    """What a round of one side does."""
    questions = [
        random_ids(settings.question_tokens, arm.base.num_text_tokens, settings.seed + row)
        for row in range(context.layout.batch_size)
    ]
    return lambda clock: side.loop(
        arm.model,
        context,
        questions,
        max_new_tokens=settings.new_tokens + 1,
        is_done=lambda _: False,
        num_text_tokens=arm.base.num_text_tokens,
        clock=clock,
    )


def _profiled(
    ask: Callable[[Clock], Answers], profiler: Profiler, clock: Clock, steps: int
) -> Profile | NotMeasured:
    """Where the time of the steps of a further round goes."""
    watch = LastLook(profiler, clock, steps)
    try:
        for _ in range(3):  # its looks at the clock are counted, tracing starts, and it is traced
            ask(watch)
            watch.again()
    except OUT_OF_MEMORY as error:  # tracing takes device memory of its own
        profiler.abandon()
        if not is_out_of_memory(error):
            raise
        return NotMeasured(not_measured="a traced round does not fit on this GPU")
    return profiler.result()


def _record(
    settings: DecodeSpeedConfig,
    models: dict[DecodedArm, ArmModel],
    contexts: dict[DecodedArm, ContextCache],
    sides: list[Side],
    side: Side,
    quantization: Quantization,
    rates: Rates,
    unpacked: dict[DecodedArm, int | None],
) -> DecodingSpeed:
    base, context = models[side.arm].base, contexts[side.arm]
    rows, steps = context.layout.batch_size, settings.new_tokens
    seconds = [answers.decode_seconds for answers in side.rounds]
    per_step = median(seconds) / steps
    slots = context.num_slots + settings.question_tokens + (steps + 1) / 2
    sizes = countable(base.model.config, settings.longest)
    if isinstance(sizes, NotMeasured):
        floor_bytes: float | NotMeasured = sizes
        floor: float | NotMeasured = sizes
        share: float | NotMeasured = sizes
    else:
        floor_bytes = decoding_bytes(
            sizes,
            num_rows=rows,
            slots=slots,
            dtype=settings.dtype,
            quantization=quantization,
            unpacked_parameters=unpacked[side.arm] or 0,
        )
        floor = floor_bytes / rates.copy_bytes_per_second
        share = floor / per_step
    return DecodingSpeed(
        arm=side.arm,
        decoding=side.decoding,
        quantization=quantization,
        batch_size=rows,
        context_tokens=settings.context_tokens,
        question_tokens=settings.question_tokens,
        cache_slots=context.num_slots,
        cache_bytes=context.num_bytes,
        decode_steps=steps,
        round_seconds=tuple(seconds),
        seconds_per_step=per_step,
        tokens_per_second=rows / per_step,
        first_token_seconds=median(answers.first_token_seconds for answers in side.rounds),
        unpacked_parameters=unpacked[side.arm],
        floor_bytes_per_step=floor_bytes,
        floor_seconds_per_step=floor,
        share_of_floor=share,
        same_rows_share=_same_rows(sides, side),
        profile=side.profile,
    )


def _same_rows(sides: list[Side], side: Side) -> float | NotMeasured:
    eager = [other for other in sides if (other.arm, other.decoding) == (side.arm, "eager")]
    if not eager:
        return NotMeasured(not_measured="the eager loop was not asked for")
    pairs = list(zip(side.rounds[0].tokens, eager[0].rounds[0].tokens, strict=True))
    return sum(mine == theirs for mine, theirs in pairs) / len(pairs)
