"""Training speed: the steps of `gistbench train` itself, timed, with the memory they take."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Literal

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gistbench.config import TrainConfig
from gistbench.config_files import validate
from gistbench.core.operations import TrainingStep, training_operations
from gistbench.launch import launched
from gistbench.measurement import MemorySampler, synchronize
from gistbench.models.manifest import read_manifest
from gistbench.records import NotMeasured, PhaseRecord
from gistbench.speed.floors import countable
from gistbench.speed.profile import Profiler
from gistbench.speed.records import Rates, SpeedBase, TrainingSpeed
from gistbench.training.objective import layout_of
from gistbench.training.run import train
from gistbench.training.share import Share
from gistbench.training.trainer import GistTrainer

PROFILED_STEPS = 3
"""The first of them is thrown away."""


class StepTimer(TrainerCallback):
    """Times the steps after the first few, and keeps what a floor is counted from.

    Attributes:
        seconds: Of each timed step.
        managed_bytes: Of optimiser state that pages, after the last timed step.
    """

    def __init__(
        self,
        sampler: MemorySampler,
        device: str,
        warm_up_steps: int,
        steps: int,
        profiler: Profiler | None = None,
    ) -> None:
        """Watch nothing yet.

        Args:
            sampler: Of the memory of the timed steps.
            device: Where the training runs.
            warm_up_steps: That are not timed.
            steps: That are. Those after them are traced.
            profiler: Traces them, if any.
        """
        self.trainer: GistTrainer | None = None
        self.seconds: list[float] = []
        self.managed_bytes = 0
        self._sampler, self._device = sampler, device
        self._warm_up_steps, self._last_timed = warm_up_steps, warm_up_steps + steps
        self._profiler = profiler
        self._open = ExitStack()
        self._started = 0.0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock, and with the first timed step the phase whose memory counts."""
        if state.global_step == self._warm_up_steps:
            self._open.enter_context(self._sampler.phase("train"))
        if state.global_step >= self._last_timed and self._profiler is not None:
            self._profiler.begin()
        synchronize(self._device)
        self._started = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Stop the clock when the device has finished, and after the last timed step the phase."""
        synchronize(self._device)
        seconds = time.perf_counter() - self._started
        control.should_save = False  # also after the last step: the state would be thrown away
        if state.global_step > self._last_timed:
            if self._profiler is not None:
                self._profiler.end(1)
            return
        if state.global_step > self._warm_up_steps:
            self.seconds.append(seconds)
        self.managed_bytes = managed_bytes()
        if state.global_step == self._last_timed:
            self._open.close()


def measure_training(
    config: TrainConfig,
    rates: Rates,
    device: Literal["cpu", "cuda"],
    *,
    steps: int,
    warm_up_steps: int,
    profiled: bool = False,
) -> tuple[TrainingSpeed, SpeedBase] | None:
    """Train for some steps at the full length, in a folder that is thrown away.

    Args:
        config: What `gistbench train` would run; its curriculum and saves are left out.
        rates: Of the same process.
        device: Where to train.
        steps: Timed.
        warm_up_steps: Before those, which allocate and choose kernels.
        profiled: Trace further steps after those, in the first process.

    Returns:
        What was measured; None in all but the first of several processes that share the steps.

    Raises:
        GistbenchError: As `gistbench.training.run.train`.
    """
    # All processes take the same steps, whoever traces them.
    more = PROFILED_STEPS if profiled else 0
    config = _at_full_length(config, steps + warm_up_steps + more)
    profiler = Profiler(device) if profiled and launched().is_first else None
    with tempfile.TemporaryDirectory() as scratch, MemorySampler(config.name, device) as sampler:
        timer = StepTimer(sampler, device, warm_up_steps, steps, profiler)
        folder = train(config, Path(scratch) / "run", device=device, callbacks=(timer,))
        if not launched().is_first:
            return None
        manifest = read_manifest(folder)
        (phase,) = (item for item in sampler.phases() if item.phase == "train")
    assert timer.trainer is not None
    model: Any = timer.trainer.model
    base = SpeedBase(
        name=manifest.base.name,
        model_type=manifest.base.model_type,
        fingerprint=manifest.base.fingerprint,
        num_parameters=int(model.get_nb_trainable_parameters()[1]),
        dtype=manifest.base.dtype,
    )
    config = validate(TrainConfig, manifest.training_config, str(folder))
    speed = _speed(config, timer, phase, rates, manifest.adapter_bytes, warm_up_steps)
    if profiler is not None:
        speed = speed.model_copy(update={"profile": profiler.result()})
    return speed, base


def managed_bytes() -> int:
    """Bytes that bitsandbytes' paged optimisers hold in managed memory, now."""
    functional = sys.modules.get("bitsandbytes.functional")
    if functional is None:
        return 0
    paged = functional.GlobalPageManager.get_instance().paged_tensors
    return sum(tensor.numel() * tensor.element_size() for tensor in paged)


def _at_full_length(config: TrainConfig, max_steps: int) -> TrainConfig:
    """The same training with every step at its last stage, and nothing saved on the way."""
    data = config.data.model_copy(
        update={"first_tasks": (), "curriculum": (), "replay": 0.0, "length_jitter": 0.0}
    )
    training = config.training.model_copy(
        update={
            "max_steps": max_steps,
            "schedule_steps": None,
            "save_steps": max_steps + 1,
            "logging_steps": max_steps,
        }
    )
    return config.model_copy(update={"data": data, "training": training})


def _speed(
    config: TrainConfig,
    timer: StepTimer,
    phase: PhaseRecord,
    rates: Rates,
    checkpoint_bytes: int,
    warm_up_steps: int,
) -> TrainingSpeed:
    trainer, training = timer.trainer, config.training
    assert trainer is not None
    model: Any = trainer.model
    step = _counted(config, trainer)
    per_step = median(timer.seconds)
    sizes = countable(model.config, step.prefix_tokens + step.suffix_tokens)
    if training.keep_weight:
        besides = "training.keep_weight reads ordinary text besides, which is not counted"
        sizes = NotMeasured(not_measured=besides)
    operations: list[float | NotMeasured] = [
        sizes
        if isinstance(sizes, NotMeasured)
        else float(training_operations(sizes, step, recompute=recompute))
        for recompute in (False, True)
    ]
    rate = rates.matrix_operations_per_second * launched().processes
    floors = [item if isinstance(item, NotMeasured) else item / rate for item in operations]
    shares = [item if isinstance(item, NotMeasured) else item / per_step for item in floors]
    return TrainingSpeed(
        preset=config.name,
        quantization=config.base.quantization,
        gradient_checkpointing=training.gradient_checkpointing,
        answer_logits_only=training.answer_logits_only,
        optim=training.optim,
        micro_batch=training.per_device_train_batch_size,
        accumulation=training.gradient_accumulation_steps,
        context_tokens=config.data.context_tokens,
        warm_up_steps=warm_up_steps,
        step_seconds=tuple(timer.seconds),
        seconds_per_step=per_step,
        tokens_per_step=step.num_tokens,
        tokens_per_second=step.num_tokens / per_step,
        trainable_parameters=int(model.get_nb_trainable_parameters()[0]),
        operations=operations[0],
        operations_with_recompute=operations[1],
        floor_seconds=floors[0],
        floor_seconds_with_recompute=floors[1],
        share_of_floor=shares[0],
        share_of_floor_with_recompute=shares[1],
        torch_allocated_peak_bytes=phase.torch_allocated_peak_bytes,
        torch_reserved_peak_bytes=phase.torch_reserved_peak_bytes,
        device_used_peak_bytes=phase.device_used_peak_bytes,
        managed_bytes=timer.managed_bytes,
        checkpoint_bytes=checkpoint_bytes,
        fused_kernels=bool(training.use_liger_kernel),
        processes=launched().processes,
    )


def _counted(config: TrainConfig, trainer: GistTrainer) -> TrainingStep:
    """The step, from a micro-batch as the trainer gets it where it shares none of it."""
    trainer.batches.share = Share(config.training.gradient_accumulation_steps)
    batch = next(iter(trainer.batches))
    num_visible = trainer.num_gists if config.objective == "gist" else None
    layout = layout_of(batch, num_visible)
    num_turns, suffix_tokens = batch["suffix_ids"].shape
    # Several turns, and answers by other weights, take passes of their own, whose logits are not
    # those of the prefix.
    joint = num_turns == layout.batch_size and config.adapter.answer_with == "adapter"
    everywhere = suffix_tokens + (layout.prefix_length if joint else 0)
    model: Any = trainer.model
    head = model.get_output_embeddings()
    return TrainingStep(
        num_sequences=layout.batch_size * config.training.gradient_accumulation_steps,
        prefix_tokens=layout.prefix_length,
        visible_tokens=layout.num_visible,
        suffix_tokens=suffix_tokens,
        logit_tokens=(
            batch["labels"].shape[1] + 1 if config.training.answer_logits_only else everywhere
        ),
        # Of two halves a pass uses one.
        adapter_parameters=sum(
            weight.numel() for name, weight in model.named_parameters() if ".lora_" in name
        )
        // (2 if config.adapter.answer_with == "own" else 1),
        head_is_trained=any(
            weight.requires_grad and weight.ndim == 2 and weight.shape[0] > trainer.num_gists
            for weight in head.parameters()
        ),
        num_turns=num_turns * config.training.gradient_accumulation_steps,
    )
