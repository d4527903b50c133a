"""What is trained on a base model: gist rows behind its vocabulary, and PEFT's adapter."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.tuners.trainable_tokens import TrainableTokensLayer
from safetensors.torch import load_file
from transformers import PreTrainedModel

from gistbench.config import AnswerWith, TrainConfig
from gistbench.errors import UsageError, did_you_mean
from gistbench.models.architectures import settled
from gistbench.models.manifest import ADAPTER_FILE

GIST_ROWS = "trainable_tokens_delta"
"""In the name of the gist rows' tensor, as PEFT calls it."""


def add_gist_rows(model: PreTrainedModel, num_gists: int, *, seed: int = 0) -> tuple[int, ...]:
    """Add gist tokens to a model's vocabulary, after its own rows.

    The tokenizer is left alone: no text tokenises to a gist token. New input rows start at the
    mean of the embedding plus noise of its spread, so that the gists differ from each other.

    Returns:
        Ids of the new rows.
    """
    num_rows = model.get_input_embeddings().num_embeddings
    device = model.get_input_embeddings().weight.device
    # Resizing draws random numbers. LoRA is to start from the same ones with gists and without.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model.resize_token_embeddings(num_rows + num_gists, mean_resizing=False)
    weight = model.get_input_embeddings().weight
    if weight.device.type != "meta":
        with torch.no_grad():
            rows = weight[:num_rows].float()
            noise = torch.randn(
                (num_gists, rows.shape[1]), generator=torch.Generator().manual_seed(seed)
            )
            start = rows.mean(dim=0) + noise.to(rows.device) * rows.std(dim=0)
            weight[num_rows:] = start.to(weight.dtype)
    return tuple(range(num_rows, num_rows + num_gists))


def add_adapter(
    model: PreTrainedModel, config: TrainConfig, gist_ids: tuple[int, ...]
) -> PeftModel:
    """Wrap a model with what the configuration trains: LoRA, and gist rows or whole matrices.

    Without gist ids nothing of the vocabulary is trained but what `modules_to_save` names. Where
    answers have weights of their own, LoRA has twice the ranks, see `gistbench.models.switch`.

    Raises:
        UsageError: The model has no module of a configured name.
    """
    adapter = settled(config, model.config.model_type).adapter
    halves = 2 if adapter.answer_with == "own" else 1
    target_modules = adapter.target_modules or ()
    modules = [(name.rsplit(".", 1)[-1], module) for name, module in model.named_modules()]
    linear = {name for name, module in modules if isinstance(module, torch.nn.Linear)}
    embedding = {name for name, module in modules if isinstance(module, torch.nn.Embedding)}
    known = {
        "target_modules": (target_modules, linear),
        "modules_to_save": (adapter.modules_to_save, linear | embedding),
    }
    for field, (wanted, names) in known.items():
        for name in wanted:
            # PEFT is content if one of them is there.
            if name.rsplit(".", 1)[-1] not in names:
                raise UsageError(
                    f"adapter.{field} {name!r} is no module of a {model.config.model_type} model, "
                    f"{did_you_mean(name, names)}"
                )
    rows = None if adapter.modules_to_save or not gist_ids else list(gist_ids)
    try:
        return get_peft_model(
            model,
            LoraConfig(
                r=halves * adapter.lora_rank,
                lora_alpha=halves * adapter.lora_alpha,
                lora_dropout=adapter.lora_dropout,
                target_modules=list(target_modules),
                modules_to_save=list(adapter.modules_to_save) or None,
                trainable_token_indices=rows,
                task_type="CAUSAL_LM",
            ),
        )
    except ValueError as error:
        raise UsageError(
            f"adapter.target_modules {', '.join(target_modules)} do not fit a "
            f"{model.config.model_type} model ({str(error).splitlines()[0][:120]}); name modules "
            "it has"
        ) from error


def load_adapter_weights(
    model: PeftModel,
    folder: Path,
    *,
    without_gist_rows: bool = False,
    answering_half: AnswerWith | None = None,
) -> str | None:
    """Give an adapter all the weights of an adapter folder, or none of them.

    Args:
        model: Whose adapter it is.
        folder: Of the weights.
        without_gist_rows: The folder holds none, and the adapter keeps its own.
        answering_half: By what the folder's adapter answers, where the ranks of this one are halves
            (`gistbench.models.switch`): by itself, and both halves become it; by the base, and
            the half that answers adds nothing; by a half of its own, as it is. None: no halves.

    Returns:
        ``None``; or, where the shapes differ, the name of the first tensor that does.
    """
    weights = load_file(folder / ADAPTER_FILE)
    if answering_half in ("adapter", "base"):
        answers = float(answering_half == "adapter")
        for name, value in weights.items():
            if ".lora_A." in name:
                weights[name] = torch.cat([value, value], dim=0)
            elif ".lora_B." in name:
                weights[name] = torch.cat([value, answers * value], dim=1)
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    if without_gist_rows:
        weights |= {name: value for name, value in own.items() if GIST_ROWS in name}
    for name in sorted(own.keys() | weights.keys()):
        if name not in own or name not in weights or own[name].shape != weights[name].shape:
            return str(name)
    set_peft_model_state_dict(model, weights)
    return None


def num_trained_parameters(model: PeftModel) -> tuple[int, int]:
    """Trainable and total parameters, as PEFT counts them (4-bit weights counted whole)."""
    trainable, total = model.get_nb_trainable_parameters()
    return int(trainable), int(total)


def merge_gist_rows(model: PeftModel) -> None:
    """Write trained gist rows into the embedding, which is not quantised, in place.

    Unmerged, PEFT copies the whole embedding at every forward pass, with indices from the host.
    """
    for module in model.modules():
        if isinstance(module, TrainableTokensLayer):
            module.merge()
