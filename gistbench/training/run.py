"""`gistbench train`: from a configuration to a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from accelerate import PartialState
from rich.console import Console
from rich.progress import Progress
from transformers import PrinterCallback, TrainerCallback, set_seed
from transformers.utils import logging as transformers_logging

from gistbench import generators
from gistbench.config import TrainConfig
from gistbench.launch import Launch, launched
from gistbench.metrics import format_count, format_seconds
from gistbench.models.adapter import add_adapter, add_gist_rows, num_trained_parameters
from gistbench.models.architectures import settled
from gistbench.models.catalog import find_model
from gistbench.models.checkpoint import save_checkpoint, start_from
from gistbench.models.loading import BaseModel, load_base
from gistbench.models.manifest import find_checkpoint
from gistbench.models.random_weights import random_base
from gistbench.models.switch import weights_by_pass
from gistbench.storage import cannot_write, check_writable, only_process, write_atomically
from gistbench.training.checks import (
    CONFIG_FILE,
    check_trackers,
    is_finished,
    require_layers,
    training_arguments,
)
from gistbench.training.curriculum import Curriculum
from gistbench.training.data import SampleBatches
from gistbench.training.keeping import Keeping, keeping_of, require_keepable
from gistbench.training.kernels import PACKAGE, fused_kernels, with_kernels, without_casts
from gistbench.training.log import TrainingLog
from gistbench.training.room import check_room
from gistbench.training.sharding import require_shardable, shard
from gistbench.training.share import share_of
from gistbench.training.states import latest_checkpoint, require_same_processes
from gistbench.training.steps import StepCallback, restore_progress
from gistbench.training.trainer import GistTrainer


def train(
    config: TrainConfig,
    output: Path,
    *,
    device: Literal["cpu", "cuda"],
    resume: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Train a checkpoint, or go on where an earlier run in the same folder stopped.

    Args:
        config: Everything that determines the run.
        output: Folder of the run: the finished checkpoint lies in it, the training log beside it,
            intermediate states in ``checkpoint-N`` with a checkpoint each in ``checkpoint-N/gist``
            or, by objective "full", in ``checkpoint-N/full``.
        device: Where to train.
        resume: Go on from the newest complete state in ``output``.
        callbacks: Further ones, for who watches the steps; each is given the ``trainer``.

    Returns:
        The folder of the finished checkpoint: ``output``.

    Raises:
        UsageError: The configuration cannot be trained; nothing has been written then.
        PrerequisiteError: Something it needs is missing.
    """
    launch = launched()
    # One process writes; the others wait for it before they begin.
    with only_process(output) if launch.is_first else nullcontext():
        return _train(config, output, launch, device=device, resume=resume, callbacks=callbacks)


def _train(
    config: TrainConfig,
    output: Path,
    launch: Launch,
    *,
    device: Literal["cpu", "cuda"],
    resume: bool,
    callbacks: Sequence[TrainerCallback],
) -> Path:
    generators.require_trained(config.data.tasks)
    share = share_of(config, launch)
    require_shardable(config, launch)
    require_keepable(config)
    curriculum = Curriculum(config)
    console = Console(stderr=True, quiet=not launch.is_first)
    checkpoint = latest_checkpoint(output) if resume else None
    if resume and is_finished(config, output):
        console.print(f"{output} already holds this training, finished")
        return output
    if checkpoint is not None:
        require_same_processes(checkpoint, launch.processes)
    arguments = training_arguments(config, output, device, share)
    set_seed(config.training.seed)
    transformers_logging.disable_progress_bar()
    place = f"cuda:{launch.local_rank}" if device == "cuda" else "cpu"
    if config.training.shard_base:
        place = "cpu"  # it may fit on no one GPU
    base = _base(config, place)
    config = settled(config, base.reference.model_type)
    config = with_kernels(config, base.model.config, device)
    require_layers(config, base.model.config.num_hidden_layers)
    supervised = check_room(config, base)
    keeping = _keeping(config, base, launch, console)
    gist_ids: tuple[int, ...] = ()
    if config.num_gists:
        gist_ids = add_gist_rows(base.model, config.num_gists, seed=config.training.seed)
    if config.training.gradient_checkpointing:
        base.model.enable_input_require_grads()
    if config.training.shard_base:
        shard(base.model, arguments.device)
    model = add_adapter(base.model, config, gist_ids)
    weights_by_pass(model, config.adapter.answer_with)
    parent = None
    if config.adapter.start_from is not None:
        folder = find_checkpoint(config.adapter.start_from, config.objective)
        parent = start_from(
            model,
            base,
            folder,
            objective=config.objective,
            answer_with=config.adapter.answer_with,
        )
    trained, total = num_trained_parameters(model)

    facts = {
        "base model": f"{config.base.name} ({base.reference.model_type}, weights "
        f"{base.reference.fingerprint[:12]}, {config.base.dtype}, quantization "
        f"{config.base.quantization})",
        "gist tokens": (
            f"{len(gist_ids)} (rows {gist_ids[0]} to {gist_ids[-1]})"
            if gist_ids
            else "none are trained: question and answer see the whole context"
        ),
        "trainable parameters": f"{trained:,} of {total:,} ({100 * trained / total:.2f} %)",
        "tasks": ", ".join(config.data.tasks),
        "begins with": curriculum.title,
        "supervised tokens per sample": str(supervised),
        "device": _device_name(device, launch),
    }
    if keeping is not None:
        windows, length = keeping.text.shape
        facts["ordinary text"] = (
            f"{windows} windows of {length} tokens, sampled from the base model"
        )
    if config.training.use_liger_kernel:
        facts["fused kernels"] = f"{PACKAGE} {version(PACKAGE)}"
    if launch.processes > 1:
        facts["processes"] = (
            f"{launch.processes}, which share every step: a step is as large as that of one process"
        )
    if config.weights == "random":
        facts["weights"] = (
            "drawn, not trained, as are all token ids: loss and exact answers mean nothing and are "
            "not measured; every step is at the full length"
        )
    batches = SampleBatches(
        config,
        curriculum,
        base.folder,
        base.tokenizer,
        gist_ids,
        share=share,
        num_random_rows=base.num_text_tokens if config.weights == "random" else None,
    )
    check_trackers(config)
    # After every refusal, in every process: what is refused writes nothing.
    PartialState().wait_for_everyone()
    log = TrainingLog(output, config, facts)
    if launch.is_first:
        check_writable(output)
        text = json.dumps(config.model_dump(mode="json"), indent=2) + "\n"
        write_atomically(output / CONFIG_FILE, text)

    def save(folder: Path) -> None:
        save_checkpoint(
            model,
            base,
            config,
            gist_ids,
            folder,
            training_summary=_summary(trainer, log, facts["device"]),
            max_trained_context_tokens=trainer.tally.longest_context_tokens,
            tasks=trainer.tally.tasks_trained if config.weights == "real" else (),
            parent=parent,
        )

    steps = StepCallback(lambda folder: save(folder / config.objective), log.stage)
    trainer = GistTrainer(
        batches=batches,
        num_gists=len(gist_ids),
        objective=config.objective,
        answer_logits_only=config.training.answer_logits_only,
        schedule_steps=config.training.schedule_steps,
        segmented=config.adapter.gist_view == "segments",
        pointer_weight=config.training.pointer_weight,
        pointer_layers=config.training.pointer_layers,
        answers_apart=config.adapter.answer_with != "adapter",
        keeping=keeping,
        lora_plus_ratio=config.training.lora_plus_ratio,
        model=model,
        args=arguments,
        callbacks=[steps, log, *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    for callback in (steps, *callbacks):
        callback.trainer = trainer
    if checkpoint is not None:
        restore_progress(trainer, checkpoint)
        trainer.state.global_step = int(checkpoint.name.split("-")[1])
        console.print(f"resuming from {checkpoint}", highlight=False, soft_wrap=True)
    if launch.rank:
        # Dropout is not to fall on the same places of every process's rows. Weights were drawn
        # alike, and what was resumed brings its own state.
        set_seed(config.training.seed + launch.rank)
    try:
        # A kill may fall between the last step and the finished checkpoint; Trainer, asked to go
        # on from there, would train one step more.
        if trainer.state.global_step < config.training.max_steps:
            with fused_kernels(model, config), without_casts(model, config):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except OSError as error:
        raise cannot_write(output, error) from error
    finally:
        batches.close()
    if launch.is_first:
        save(output)
        log.finish(f"Finished: {_summary(trainer, log, facts['device'])}.")
    return output


def _device_name(device: str, launch: Launch) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    if launch.processes == 1:
        return name
    return (
        f"{launch.processes} x {name}"
        if device == "cuda"
        else f"{name}, {launch.processes} processes"
    )


def _keeping(
    config: TrainConfig, base: BaseModel, launch: Launch, console: Console
) -> Keeping | None:
    if not config.training.keep_weight:
        return None
    console.print("sampling ordinary text from the base model", highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        tokens = bar.add_task("tokens", total=None)
        return keeping_of(
            config,
            base,
            launch,
            progress=lambda done, total: bar.update(tokens, completed=done, total=total),
        )


def _base(config: TrainConfig, place: str) -> BaseModel:
    dtype = getattr(torch, config.base.dtype)
    if config.weights == "random":
        return random_base(
            config.base.name,
            dtype=dtype,
            device=place,
            quantization=config.base.quantization,
            max_positions=config.max_positions,
            revision=config.base.revision,
            seed=config.training.seed,
        )
    return load_base(
        find_model(config.base.name),
        dtype=dtype,
        device=place,
        quantization=config.base.quantization,
        revision=config.base.revision,
        trust_remote_code=config.base.trust_remote_code,
    )


def _summary(trainer: GistTrainer, log: TrainingLog, device: str) -> str:
    state, tally = trainer.state, trainer.tally
    return (
        f"{state.global_step:,} steps, {format_count(tally.context_tokens_seen)} context tokens, "
        f"{format_count(tally.supervised_tokens)} supervised tokens, "
        f"{format_seconds(log.seconds)} on {device}"
    )
