"""What a training refuses before step 1, and what transformers is told."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from transformers import TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks
from transformers.optimization import get_scheduler

from gistbench.config import TrainConfig
from gistbench.errors import PrerequisiteError, UsageError
from gistbench.models.architectures import is_default_of_some
from gistbench.models.manifest import MANIFEST_FILE
from gistbench.training.share import Share

CONFIG_FILE = "training.json"


def is_finished(config: TrainConfig, output: Path) -> bool:
    """Claim a folder for a configuration; say whether its training is already over.

    Raises:
        UsageError: The folder holds a training with other settings, or is none.
    """
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file, not a folder; choose another --output")
    for path in (output / MANIFEST_FILE, output / CONFIG_FILE):
        if not path.is_file():
            continue
        before = json.loads(path.read_text(encoding="utf-8"))
        before = _with_defaults(before.get("training_config", before))
        now = config.model_dump(mode="json")
        modules = before.get("adapter", {}).get("target_modules")
        if config.adapter.target_modules is None and is_default_of_some(modules):
            # What is saved names the modules; here the base model, which would, is not loaded yet.
            now["adapter"]["target_modules"] = modules
        if config.training.use_liger_kernel is None:
            # What is saved was decided by the machine that trained.
            now["training"]["use_liger_kernel"] = before.get("training", {}).get("use_liger_kernel")
        differing = _differing(before, now)
        if differing:
            name, old, new = differing[0]
            raise UsageError(
                f"{output} holds a training with other settings ({name} {old!r}, now {new!r}); "
                "choose another --output"
            )
        if path.name == MANIFEST_FILE:
            return True
    return False


def _with_defaults(saved: dict[str, Any]) -> dict[str, Any]:
    """A saved configuration with the fields that did not exist when it was saved."""
    try:
        return TrainConfig.model_validate(saved).model_dump(mode="json")
    except ValidationError:  # of a later version: what differs is named as it stands
        return saved


def _differing(
    before: dict[str, Any], now: dict[str, Any], prefix: str = ""
) -> list[tuple[str, Any, Any]]:
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differing(old, new, f"{prefix}{name}.")
        elif old != new:
            found.append((f"{prefix}{name}", old, new))
    return found


def _require_two_passes(config: TrainConfig) -> None:
    if config.objective == "full":
        raise UsageError(
            f"adapter.answer_with {config.adapter.answer_with} is for gists, which other weights "
            "read than answer, and objective full trains none; leave it out"
        )
    if config.training.gradient_checkpointing:
        raise UsageError(
            f"adapter.answer_with {config.adapter.answer_with} reads and answers by different "
            "weights, which "
            "training.gradient_checkpointing cannot tell apart when it computes again; pass "
            "--training.no-gradient-checkpointing"
        )


def training_arguments(
    config: TrainConfig, output: Path, device: str, share: Share
) -> TrainingArguments:
    """The configuration as transformers takes it, for one process's share of it.

    Raises:
        PrerequisiteError: The optimiser needs a package that is missing.
        UsageError: transformers refuses a value.
    """
    _require_own_sharing()
    training = config.training
    if training.schedule_steps is not None and training.schedule_steps < training.max_steps:
        raise UsageError(
            f"training.schedule_steps {training.schedule_steps} ends before training.max_steps "
            f"{training.max_steps}; set --training.schedule-steps {training.max_steps} or more"
        )
    if training.pointer_weight and config.adapter.gist_view != "segments":
        raise UsageError(
            f"training.pointer_weight {training.pointer_weight:g} needs to know which gist reads a "
            "needle; pass --adapter.gist-view segments, or leave it out"
        )
    if training.pointer_weight and config.objective == "full":
        raise UsageError(
            "training.pointer_weight is a loss on gists, and objective full trains none; leave it "
            "out"
        )
    if config.data.questions_per_context > 1 and training.gradient_checkpointing:
        raise UsageError(
            f"data.questions_per_context {config.data.questions_per_context} keeps what was read "
            "for all questions, which training.gradient_checkpointing throws away; pass "
            "--data.questions-per-context 1 or --training.no-gradient-checkpointing"
        )
    if config.adapter.answer_with != "adapter":
        _require_two_passes(config)
    if "8bit" in training.optim and find_spec("bitsandbytes") is None:
        raise PrerequisiteError(
            f"optimiser {training.optim} needs bitsandbytes, which is not installed; run "
            "`pip install bitsandbytes` or pass --training.optim adamw_torch_fused"
        )
    try:
        get_scheduler(
            training.lr_scheduler_type,
            torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0),
            num_warmup_steps=training.warmup_steps,
            num_training_steps=training.max_steps,
            scheduler_specific_kwargs=dict(training.lr_scheduler_kwargs),
        )
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"training.lr_scheduler_type {training.lr_scheduler_type} does not go with "
            f"training.lr_scheduler_kwargs {training.lr_scheduler_kwargs} "
            f"({str(error).splitlines()[0]}); change one of them"
        ) from error
    try:
        arguments = TrainingArguments(
            output_dir=str(output),
            max_steps=training.max_steps,
            per_device_train_batch_size=training.per_device_train_batch_size,
            gradient_accumulation_steps=share.own_accumulation,
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
            # Every trained weight takes part in every step, unless the adapter is off in answers:
            # then nothing behind the last layer's keys and values does. No buffer ever changes.
            ddp_find_unused_parameters=config.adapter.answer_with == "base",
            ddp_broadcast_buffers=False,
        )
    except ValueError as error:
        raise UsageError(f"training: {str(error).splitlines()[0]}") from error
    if arguments.world_size != share.processes:
        raise UsageError(
            f"the launcher started {share.processes} processes and torch finds "
            f"{arguments.world_size}; start them with `torchrun --nproc-per-node "
            f"{share.processes} -m gistbench train ...`"
        )
    # One process uses one GPU, also where it sees several: Trainer would spread each batch over
    # them by `DataParallel`, which knows nothing of layouts.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def require_layers(config: TrainConfig, num_layers: int) -> None:
    """Refuse a loss on layers that the model does not have.

    Raises:
        UsageError: Names the first one.
    """
    if config.training.pointer_layers and not config.training.pointer_weight:
        raise UsageError(
            "training.pointer_layers says where a loss counts that has no weight; pass "
            "--training.pointer-weight 1, or leave it out"
        )
    for layer in config.training.pointer_layers:
        if not 0 <= layer < num_layers:
            raise UsageError(
                f"training.pointer_layers {layer} is no layer of a model with {num_layers}; name "
                f"some from 0 to {num_layers - 1}"
            )


def _require_own_sharing() -> None:
    """Refuse what `accelerate launch` may have been told beyond starting processes.

    Raises:
        UsageError: The launch asks for FSDP, DeepSpeed or Megatron.
    """
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() in ("true", "1"):
            raise UsageError(
                f"accelerate's configuration asks for {name}, which this training does not use; "
                "start it with `torchrun` or `accelerate launch --multi_gpu`, and for a base model "
                "that does not fit on one GPU pass --training.shard-base"
            )


def check_trackers(config: TrainConfig) -> None:
    """Refuse trackers that transformers does not know or that are not installed."""
    for name in config.training.report_to:
        try:
            for callback in get_reporting_integration_callbacks([name]):
                callback()
        except (RuntimeError, ValueError, ImportError) as error:
            raise PrerequisiteError(
                f"training.report_to {name}: {str(error).splitlines()[0]}; install it or leave "
                "--training.report-to out"
            ) from error
