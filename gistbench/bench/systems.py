"""What holding contexts costs, and how fast they are answered: measured on a GPU or not at all."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence

import torch

from gistbench.arms.base import Prompt
from gistbench.core.cache import ContextCache, stack
from gistbench.evaluation.engine import Engine
from gistbench.measurement import MemorySampler
from gistbench.models.decode import no_context
from gistbench.models.static import release
from gistbench.records import NotMeasured, SteadyState, ThroughputRound

NO_GPU = NotMeasured(
    not_measured="no NVIDIA GPU in this run: device memory and speed are measured on one only"
)
DECODE_STEPS = 48
WARM_UP_STEPS = 8
SETTLE_SECONDS = 0.2


def steady_state(
    engine: Engine, sampler: MemorySampler, prompts: Sequence[Prompt], contexts: int
) -> SteadyState | NotMeasured:
    """Memory while `contexts` compressed or full contexts are held and nothing runs.

    Contexts are read one at a time, each into memory of its own; where there are fewer prompts,
    they are read again, since what is measured does not depend on their text.
    """
    if not engine.device.startswith("cuda"):
        return NO_GPU
    held: list[ContextCache] = []
    release(engine.decoding)  # nothing runs: the latest batch's buffers are not part of this state
    try:
        for number in range(contexts):
            held.append(engine.hold(prompts[number % len(prompts)]))
        gc.collect()
        torch.cuda.empty_cache()
        with sampler.phase("steady"):
            time.sleep(SETTLE_SECONDS)
            snapshot = sampler.snapshot()
        allocated, reserved = snapshot.torch_allocated_bytes, snapshot.torch_reserved_bytes
        if isinstance(allocated, NotMeasured):
            return allocated
        if isinstance(reserved, NotMeasured):
            return reserved
        return SteadyState(
            contexts_held=contexts,
            context_tokens=len(prompts[0].tokens.context),
            cache_bytes=sum(cache.num_bytes for cache in held),
            torch_allocated_bytes=allocated,
            torch_reserved_bytes=reserved,
            device_used_bytes=snapshot.device_used_bytes,
        )
    except torch.OutOfMemoryError:
        return _does_not_fit(len(held), contexts)
    finally:
        held.clear()
        gc.collect()
        torch.cuda.empty_cache()


def throughput_round(
    engine: Engine, prompts: Sequence[Prompt], contexts: int, round_index: int
) -> ThroughputRound | NotMeasured:
    """Decoding speed with `contexts` answered together: steps after the first tokens, timed.

    Every arm asks the same question and generates the same number of tokens, whatever they are.
    """
    if not engine.device.startswith("cuda"):
        return NO_GPU
    held: list[ContextCache] = []
    num_held = 0
    try:
        for number in range(contexts):
            held.append(engine.hold(prompts[number % len(prompts)]))
            num_held += 1
        together = stack(held) if held[0].keys else no_context(contexts)
        held.clear()
        question = prompts[0].tokens.question
        seconds = 0.0
        for steps in (WARM_UP_STEPS, DECODE_STEPS):
            answers = engine.decoding(
                engine.reader.model,
                together,
                [question] * contexts,
                max_new_tokens=steps + 1,
                is_done=lambda _: False,
                num_text_tokens=engine.base.num_text_tokens,
                clock=engine.clock,
            )
            seconds = answers.decode_seconds
    except torch.OutOfMemoryError:
        return _does_not_fit(num_held, contexts)
    return ThroughputRound(
        round_index=round_index,
        contexts=contexts,
        context_tokens=len(prompts[0].tokens.context),
        decode_steps=DECODE_STEPS,
        seconds=seconds,
    )


def _does_not_fit(held: int, contexts: int) -> NotMeasured:
    return NotMeasured(
        not_measured=f"{contexts} contexts do not fit on this GPU: memory ran out with {held} held"
    )
