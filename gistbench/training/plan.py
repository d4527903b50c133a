"""What a configuration would train and take, counted without any weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from gistbench.config import Objective, TrainConfig
from gistbench.core.footprint import Architecture
from gistbench.metrics import compression_ratio
from gistbench.models.adapter import add_adapter, add_gist_rows, num_trained_parameters
from gistbench.models.architectures import require_supported
from gistbench.models.catalog import architecture_of, find_model
from gistbench.models.loading import local_folder
from gistbench.records import Record


class Plan(Record):
    """Counts and predicted bytes of a configuration. Nothing here was measured.

    Attributes:
        num_gists: Gist tokens trained: 0 by objective "full".
        compression_ratio: None where no gists are trained, as is `gist_cache_bytes`.
    """

    name: str
    base: str
    objective: Objective
    num_gists: int
    context_tokens: int
    compression_ratio: float | None
    trainable_parameters: int
    total_parameters: int
    trainable_share: float
    weights_bytes: int
    key_value_bytes_per_token: int
    full_cache_bytes: int
    gist_cache_bytes: int | None
    context_tokens_per_step: int


def plan(config: TrainConfig) -> Plan:
    """Count parameters on the meta device and predict bytes from the architecture.

    Raises:
        UsageError: The base model is unknown or of an unsupported architecture.
        PrerequisiteError: Its configuration is neither catalogued nor at hand.
    """
    fields = _architecture_fields(config)
    options = {name: value for name, value in fields.items() if name != "model_type"}
    model_config = AutoConfig.for_model(fields["model_type"], **options)
    require_supported(model_config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config)
    num_gists = config.num_gists
    gist_ids = add_gist_rows(model, num_gists) if num_gists else ()
    trainable, total = num_trained_parameters(add_adapter(model, config, gist_ids))
    architecture = Architecture.of(fields)
    per_token = architecture.key_value_bytes_per_token(config.base.dtype)
    training = config.training
    return Plan(
        name=config.name,
        base=config.base.name,
        objective=config.objective,
        num_gists=num_gists,
        context_tokens=config.data.context_tokens,
        compression_ratio=(
            compression_ratio(config.data.context_tokens, num_gists) if num_gists else None
        ),
        trainable_parameters=trainable,
        total_parameters=total,
        trainable_share=trainable / total,
        weights_bytes=architecture.weights_bytes(
            config.base.dtype, config.base.quantization, num_gists
        ),
        key_value_bytes_per_token=per_token,
        full_cache_bytes=per_token * config.data.context_tokens,
        gist_cache_bytes=per_token * num_gists if num_gists else None,
        context_tokens_per_step=config.data.context_tokens
        * training.per_device_train_batch_size
        * training.gradient_accumulation_steps,
    )


def _architecture_fields(config: TrainConfig) -> Mapping[str, Any]:
    known = architecture_of(config.base.name)
    if known is not None:
        return known
    folder = local_folder(find_model(config.base.name), revision=config.base.revision)
    fields: dict[str, Any] = AutoConfig.from_pretrained(folder).to_dict()
    return fields
