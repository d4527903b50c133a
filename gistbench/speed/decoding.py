"""Decoding speed: full and gist caches, static and eager, taking turns in one process."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median

import torch

from gistbench.config import AdapterConfig, Decoding, Quantization, TrainConfig
from gistbench.core.cache import ContextCache, stack
from gistbench.core.operations import decoding_bytes
from gistbench.errors import UsageError
from gistbench.models.adapter import add_adapter, add_gist_rows, merge_gist_rows
from gistbench.models.catalog import find_model
from gistbench.models.checkpoint import load_checkpoint
from gistbench.models.decode import AnswerLoop, Answers, read_contexts
from gistbench.models.loading import BaseModel, load_base
from gistbench.models.manifest import base_of, find_checkpoint
from gistbench.models.memory import OUT_OF_MEMORY, is_out_of_memory
from gistbench.models.random_weights import random_base, random_ids
from gistbench.models.static import decoding_loop
from gistbench.records import NotMeasured
from gistbench.speed.floors import countable
from gistbench.speed.records import DecodingSpeed, Rates, SkippedSide
from gistbench.speed.settings import DecodedArm, DecodeSpeedConfig, SpeedModel

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class ArmModel:
    """An arm's model, as a run would have it.

    Attributes:
        base: What it was made from; the model below may be another by now.
        model: Reads and answers.
        gist_ids: Appended to the context; empty for full context.
        segmented: As the checkpoint's gists were trained.
        num_parameters: Of the base model, before anything was added to it.
    """

    base: BaseModel
    model: torch.nn.Module
    gist_ids: tuple[int, ...] = ()
    segmented: bool = False
    num_parameters: int = 0


@dataclass(slots=True)
class Side:
    """One arm and one loop, and what its rounds took."""

    arm: DecodedArm
    decoding: Decoding
    loop: AnswerLoop
    rounds: list[Answers] = field(default_factory=list)


def load_arm(
    settings: SpeedModel, arm: DecodedArm, quantization: Quantization, device: str
) -> ArmModel:
    """Load an arm's model: merged where weights are not quantised, as in a run.

    Raises:
        GistbenchError: It cannot be had; see `load_base`, `random_base`, `load_checkpoint`.
    """
    dtype = getattr(torch, settings.dtype)
    if settings.weights == "real":
        base = load_base(
            find_model(base_of(settings.checkpoint, settings.base)),
            dtype=dtype,
            device=device,
            quantization=quantization,
            revision=settings.revision,
        )
        num_parameters = int(base.model.num_parameters())
        if arm == "full" or settings.checkpoint is None:
            return ArmModel(base, base.model, num_parameters=num_parameters)
        trained = load_checkpoint(
            base,
            find_checkpoint(settings.checkpoint),
            allow_other_precision=settings.allow_other_precision,
        )
        segmented = trained.manifest.gist_view == "segments"
        return ArmModel(base, trained.model, trained.gist_ids, segmented, num_parameters)
    base = random_base(
        settings.base or "llama-3-8b",
        dtype=dtype,
        device=device,
        quantization=quantization,
        max_positions=settings.max_positions,
        revision=settings.revision,
        seed=settings.seed,
    )
    num_parameters = int(base.model.num_parameters())
    if arm == "full":
        return ArmModel(base, base.model, num_parameters=num_parameters)
    config = TrainConfig(adapter=AdapterConfig(num_gists=settings.num_gists))
    gist_ids = add_gist_rows(base.model, settings.num_gists, seed=settings.seed)
    wrapped = add_adapter(base.model, config, gist_ids)
    model: torch.nn.Module = wrapped
    if quantization == "none":
        model = wrapped.merge_and_unload()
    else:
        merge_gist_rows(wrapped)
    return ArmModel(base, model.eval(), gist_ids, num_parameters=num_parameters)


def measure_decoding(
    settings: DecodeSpeedConfig,
    models: dict[DecodedArm, ArmModel],
    quantization: Quantization,
    rates: Rates,
    device: str,
    clock: Clock,
) -> Iterator[DecodingSpeed | SkippedSide]:
    """Every batch size at one precision, all sides of each alternating round by round.

    What is generated decides nothing: every side runs the same number of steps.

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
        # What the sides of one batch size keep must be gone before the next is tried.
        yield from _one_batch_size(settings, models, quantization, batch_size, rates, clock)
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
) -> list[DecodingSpeed | SkippedSide]:
    sides = [Side(arm, decoding, decoding_loop(decoding)) for arm, decoding in settings.sides]
    try:
        contexts = {arm: _contexts(settings, models[arm], batch_size) for arm in settings.arm_names}
        _take_turns(settings, models, contexts, sides, clock)
    except OUT_OF_MEMORY as error:
        if not is_out_of_memory(error):
            raise
        reason = f"{batch_size} contexts of every side at once do not fit on this GPU"
        return [
            SkippedSide(
                arm=side.arm,
                decoding=side.decoding,
                quantization=quantization,
                batch_size=batch_size,
                reason=NotMeasured(not_measured=reason),
            )
            for side in sides
        ]
    return [_record(settings, models, contexts, sides, side, quantization, rates) for side in sides]


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
) -> None:
    """A round that does not count, then those that do; every other one in the reverse order."""
    for round_index in range(settings.rounds + 1):
        for side in sides if round_index % 2 else reversed(sides):
            arm, context = models[side.arm], contexts[side.arm]
            rows = context.layout.batch_size
            questions = [
                random_ids(settings.question_tokens, arm.base.num_text_tokens, settings.seed + row)
                for row in range(rows)
            ]
            answers = side.loop(
                arm.model,
                context,
                questions,
                max_new_tokens=settings.new_tokens + 1,
                is_done=lambda _: False,
                num_text_tokens=arm.base.num_text_tokens,
                clock=clock,
            )
            if round_index:
                side.rounds.append(answers)


def _record(
    settings: DecodeSpeedConfig,
    models: dict[DecodedArm, ArmModel],
    contexts: dict[DecodedArm, ContextCache],
    sides: list[Side],
    side: Side,
    quantization: Quantization,
    rates: Rates,
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
            sizes, num_rows=rows, slots=slots, dtype=settings.dtype, quantization=quantization
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
        floor_bytes_per_step=floor_bytes,
        floor_seconds_per_step=floor,
        share_of_floor=share,
        same_rows_share=_same_rows(sides, side),
    )


def _same_rows(sides: list[Side], side: Side) -> float | NotMeasured:
    eager = [other for other in sides if (other.arm, other.decoding) == (side.arm, "eager")]
    if not eager:
        return NotMeasured(not_measured="the eager loop was not asked for")
    pairs = list(zip(side.rounds[0].tokens, eager[0].rounds[0].tokens, strict=True))
    return sum(mine == theirs for mine, theirs in pairs) / len(pairs)
