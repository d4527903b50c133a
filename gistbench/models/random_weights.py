"""Models with random weights, built straight on the device: memory and speed without a download.

Neither depends on the values of the weights. What such a model says means nothing, so whatever is
measured with one has no accuracy, and its checkpoints go on no other model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from gistbench.errors import UsageError
from gistbench.models.architectures import require_supported
from gistbench.models.attention import ATTENTION
from gistbench.models.catalog import architecture_of, find_model
from gistbench.models.loading import (
    BaseModel,
    Quantization,
    load_config,
    local_folder,
    nf4_settings,
    reference_of,
)
from gistbench.models.manifest import RANDOM_WEIGHTS
from gistbench.records import NotMeasured

MEANINGLESS = NotMeasured(not_measured="random weights: what the model says means nothing")
"""Why there is neither a loss nor an accuracy."""


def random_base(
    name: str,
    *,
    dtype: torch.dtype,
    device: str,
    quantization: Quantization = "none",
    max_positions: int | None = None,
    revision: str | None = None,
    seed: int = 0,
) -> BaseModel:
    """Build a base model of an architecture, with random weights and the gist attention.

    Each matrix is drawn on the device, and quantised there before the next one is drawn, so that
    there is never more than one of them in `dtype` beside the 4-bit ones.

    Args:
        name: A catalogued model, or anything else with a configuration: a folder that holds a
            config.json and nothing else will do.
        dtype: Of the weights, or of the computation where they are quantised.
        device: A torch device.
        quantization: As for `load_base`.
        max_positions: Positions that the model is given, where its own are too few.
        revision: Of a hub model.
        seed: Of the weights.

    Raises:
        UsageError: An unsupported architecture, or fewer positions than one.
        PrerequisiteError: There is no such configuration, or bitsandbytes is missing.
    """
    config = architecture_config(name, revision=revision)
    require_supported(config)
    if max_positions is not None:
        if max_positions < 1:
            raise UsageError(f"--max-positions {max_positions} leaves no room; pass 1 or more")
        config.max_position_embeddings = max_positions
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION, dtype=dtype)
    quantizer = _prepare_nf4(model, dtype, device) if quantization == "nf4" else None
    _materialise(model, torch.device(device), seed)
    if quantizer is not None:
        quantizer.postprocess_model(model)
    model.eval()
    fingerprint = f"{RANDOM_WEIGHTS}{seed}"
    reference = reference_of(config, name, fingerprint, dtype, quantization)
    return BaseModel(model, cast(Any, NoTokenizer(name)), Path(name), reference)


def architecture_config(name: str, *, revision: str | None = None) -> PreTrainedConfig:
    """The configuration of a catalogued model, or that of a folder, file or hub model.

    Raises:
        PrerequisiteError: It cannot be read.
    """
    known = architecture_of(name)
    if known is not None:
        fields = {key: value for key, value in known.items() if key != "model_type"}
        return AutoConfig.for_model(known["model_type"], **fields)
    return load_config(local_folder(find_model(name), revision=revision), trust_remote_code=False)


class NoTokenizer:
    """Stands where a tokenizer would; refuses whatever is asked of it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *_: Any, **__: Any) -> Any:
        self._refuse()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def _refuse(self) -> None:
        raise UsageError(
            f"{self._name} has random weights and no tokenizer, so it can read no text; leave "
            "--weights random out to use the real model"
        )


def random_ids(count: int, num_rows: int, seed: int) -> list[int]:
    """Token ids below `num_rows`, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    drawn: list[int] = torch.randint(num_rows, (count,), generator=generator).tolist()
    return drawn


def _prepare_nf4(model: PreTrainedModel, dtype: torch.dtype, device: str) -> Any:
    """Put 4-bit layers in place, empty still; what they need to be trained comes with them."""
    from transformers.quantizers import AutoHfQuantizer

    quantizer = AutoHfQuantizer.from_config(nf4_settings(dtype), pre_quantized=False)
    quantizer.preprocess_model(model, device_map={"": device})
    model.hf_quantizer = quantizer
    return quantizer


def _materialise(model: PreTrainedModel, device: torch.device, seed: int) -> None:
    """Give every parameter and buffer memory and the start that its architecture gives it."""
    made: dict[int, torch.nn.Parameter] = {}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(seed)
        for module in model.modules():
            wanted = {}
            for name, parameter in module.named_parameters(recurse=False):
                wanted[name] = parameter
                if id(parameter) not in made:
                    empty = torch.empty(parameter.shape, dtype=model.dtype, device=device)
                    made[id(parameter)] = torch.nn.Parameter(empty, parameter.requires_grad)
                module._parameters[name] = made[id(parameter)]
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = torch.empty_like(buffer, device=device)
            model._init_weights(module)
            for name, parameter in wanted.items():
                if hasattr(parameter, "quant_state") and name == "weight":
                    options = dict(parameter.__dict__)
                    quantised = type(parameter)(
                        module._parameters[name].data, requires_grad=False, **options
                    ).to(device)
                    module._parameters[name] = made[id(parameter)] = quantised
