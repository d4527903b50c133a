"""`gistbench train`: from a configuration to a gist checkpoint."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from transformers import PrinterCallback, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

from gistbench import generators
from gistbench.config import TrainConfig
from gistbench.errors import PrerequisiteError, UsageError
from gistbench.metrics import format_count, format_seconds
from gistbench.models.catalog import find_model
from gistbench.models.checkpoint import (
    add_adapter,
    add_gist_rows,
    num_trained_parameters,
    save_checkpoint,
)
from gistbench.models.loading import BaseModel, load_base
from gistbench.records import cannot_write, check_writable
from gistbench.training.curriculum import Curriculum
from gistbench.training.data import SampleBatches, build_example
from gistbench.training.log import TrainingLog
from gistbench.training.trainer import (
    GistTrainer,
    StepCallback,
    latest_checkpoint,
    restore_progress,
)

GIST_FOLDER = "gist"


def train(
    config: TrainConfig,
    output: Path,
    *,
    device: Literal["cpu", "cuda"],
    resume: bool = True,
) -> Path:
    """Train a gist checkpoint, or go on where an earlier run in the same folder stopped.

    Args:
        config: Everything that determines the run.
        output: Folder of the run: the finished checkpoint lies in it, the training log beside it,
            intermediate states in ``checkpoint-N`` with a gist checkpoint each in
            ``checkpoint-N/gist``.
        device: Where to train.
        resume: Go on from the newest complete state in ``output``.

    Returns:
        The folder of the finished gist checkpoint: ``output``.

    Raises:
        UsageError: The configuration cannot be trained; nothing has been written then.
        PrerequisiteError: Something it needs is missing.
    """
    generators.require_tasks(config.data.tasks)
    check_writable(output)
    arguments = training_arguments(config, output, device)
    set_seed(config.training.seed)
    transformers_logging.disable_progress_bar()
    place = f"cuda:{arguments.local_process_index}" if device == "cuda" else "cpu"
    base = load_base(
        find_model(config.base.name),
        dtype=getattr(torch, config.base.dtype),
        device=place,
        quantization=config.base.quantization,
        revision=config.base.revision,
        trust_remote_code=config.base.trust_remote_code,
    )
    supervised = check_room(config, base)
    gist_ids = add_gist_rows(base.model, config.adapter.num_gists, seed=config.training.seed)
    if config.training.gradient_checkpointing:
        base.model.enable_input_require_grads()
    model = add_adapter(base.model, config, gist_ids)
    trained, total = num_trained_parameters(model)

    facts = {
        "base model": f"{config.base.name} ({base.reference.model_type}, weights "
        f"{base.reference.fingerprint[:12]}, {config.base.dtype}, quantization "
        f"{config.base.quantization})",
        "gist tokens": f"{len(gist_ids)} (rows {gist_ids[0]} to {gist_ids[-1]})",
        "trainable parameters": f"{trained:,} of {total:,} ({100 * trained / total:.2f} %)",
        "tasks": ", ".join(config.data.tasks),
        "supervised tokens per sample": str(supervised),
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
    }
    curriculum = Curriculum(config)
    batches = SampleBatches(
        config,
        curriculum,
        base.folder,
        base.tokenizer,
        gist_ids,
        rank=arguments.process_index,
    )
    log = TrainingLog(output, config, facts)

    def save_gists(folder: Path) -> None:
        save_checkpoint(
            model,
            base,
            config,
            gist_ids,
            folder,
            training_summary=_summary(trainer, log, facts["device"]),
            max_trained_context_tokens=curriculum.context_tokens,
        )

    steps = StepCallback(lambda folder: save_gists(folder / GIST_FOLDER))
    trainer = GistTrainer(
        batches=batches,
        num_gists=len(gist_ids),
        answer_logits_only=config.training.answer_logits_only,
        model=model,
        args=arguments,
        callbacks=[steps, log],
    )
    trainer.remove_callback(PrinterCallback)
    steps.trainer = trainer
    checkpoint = latest_checkpoint(output) if resume else None
    if checkpoint is not None:
        restore_progress(trainer, checkpoint)
        trainer.state.global_step = int(checkpoint.name.split("-")[1])
        Console(stderr=True).print(f"resuming from {checkpoint}", highlight=False)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except OSError as error:
        raise cannot_write(output, error) from error
    finally:
        batches.close()
    if trainer.is_world_process_zero():
        save_gists(output)
        log.finish(f"Finished: {_summary(trainer, log, facts['device'])}.")
    return output


def training_arguments(config: TrainConfig, output: Path, device: str) -> TrainingArguments:
    """The configuration as transformers takes it.

    Raises:
        PrerequisiteError: The optimiser needs a package that is missing.
        UsageError: transformers refuses a value.
    """
    training = config.training
    if "8bit" in training.optim and find_spec("bitsandbytes") is None:
        raise PrerequisiteError(
            f"optimiser {training.optim} needs bitsandbytes, which is not installed; run "
            "`pip install bitsandbytes` or pass --training.optim adamw_torch_fused"
        )
    try:
        return TrainingArguments(
            output_dir=str(output),
            max_steps=training.max_steps,
            per_device_train_batch_size=training.per_device_train_batch_size,
            gradient_accumulation_steps=training.gradient_accumulation_steps,
            learning_rate=training.learning_rate,
            lr_scheduler_type=training.lr_scheduler_type,
            lr_scheduler_kwargs=dict(training.lr_scheduler_kwargs),
            warmup_steps=training.warmup_steps,
            weight_decay=training.weight_decay,
            max_grad_norm=training.max_grad_norm,
            optim=training.optim,
            gradient_checkpointing=training.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            logging_steps=training.logging_steps,
            logging_first_step=True,
            save_steps=training.save_steps,
            save_total_limit=training.save_total_limit,
            seed=training.seed,
            report_to=list(training.report_to) or "none",
            bf16=config.base.dtype == "bfloat16",
            use_cpu=device == "cpu",
            remove_unused_columns=False,
            ignore_data_skip=True,
            disable_tqdm=True,
            save_strategy="steps",
        )
    except ValueError as error:
        raise UsageError(f"training: {str(error).splitlines()[0]}") from error


def check_room(config: TrainConfig, base: BaseModel) -> int:
    """Refuse, before step 1, a length at which gists or answers would be cut off.

    Returns:
        Supervised tokens per sample, the end of the answer included.

    Raises:
        UsageError: Context, gists, question and answer do not fit.
    """
    longest = supervised = 0
    for task in config.data.tasks:
        try:
            example = build_example(
                base.tokenizer,
                task=task,
                context_tokens=config.data.context_tokens,
                index=0,
                seed=config.training.seed,
            )
        except ValueError as error:
            raise UsageError(f"data.context_tokens: {error}") from error
        longest = max(longest, example.num_tokens + config.adapter.num_gists)
        supervised = max(supervised, len(example.answer))
    if config.data.max_length is not None and longest > config.data.max_length:
        raise UsageError(
            f"data.max_length {config.data.max_length:,} would cut off gists or answers: context, "
            f"{config.adapter.num_gists} gists, question and answer take {longest:,} tokens; set "
            f"--data.max-length {longest} or a shorter --data.context-tokens"
        )
    if longest > base.max_positions:
        raise UsageError(
            f"{longest:,} tokens of context, gists, question and answer exceed the "
            f"{base.max_positions:,} positions of {config.base.name}; choose --data.context-tokens "
            f"{config.data.context_tokens - (longest - base.max_positions)} or less"
        )
    return supervised


def _summary(trainer: GistTrainer, log: TrainingLog, device: str) -> str:
    state = trainer.state
    return (
        f"{state.global_step:,} steps, {format_count(trainer.context_tokens_seen)} context tokens, "
        f"{format_count(trainer.supervised_tokens)} supervised tokens, "
        f"{format_seconds(log.seconds)} on {device}"
    )
