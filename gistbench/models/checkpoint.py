"""Checkpoints: adding gist tokens to a base model, saving what was trained, loading it back.

A checkpoint is a PEFT adapter folder that plain PEFT loads, with a manifest beside it. It holds
only what was trained: LoRA matrices and the gist rows (or, for the seed recipe, whole matrices).
Trained with the whole context visible, it has no gist rows and the base keeps its vocabulary.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
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
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from gistbench.config import Objective, TrainConfig
from gistbench.errors import UsageError, did_you_mean
from gistbench.models.architectures import settled
from gistbench.models.catalog import file_sha256
from gistbench.models.loading import BaseModel
from gistbench.models.manifest import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_FILE,
    MANIFEST_FILE,
    Manifest,
    read_manifest,
    require_base,
    require_objective,
)
from gistbench.models.switch import answer_with_base
from gistbench.storage import write_atomically, write_json

ADAPTER_PACKAGES = ("torch", "transformers", "peft")


@dataclass(frozen=True, slots=True)
class GistModel:
    """A base model with a trained adapter, ready to read contexts.

    Attributes:
        model: With gist rows; merged into plain modules where the weights are not quantised, so
            that it runs exactly the operations of the base model. Not merged where the base model
            answers, see `answer_with_base`.
        gist_ids: Vocabulary rows of the gist tokens; empty by objective "full".
        manifest: What the checkpoint says of itself.
    """

    model: torch.nn.Module
    gist_ids: tuple[int, ...]
    manifest: Manifest


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

    Without gist ids nothing of the vocabulary is trained but what `modules_to_save` names.

    Raises:
        UsageError: The model has no module of a configured name.
    """
    adapter = settled(config, model.config.model_type).adapter
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
                r=adapter.lora_rank,
                lora_alpha=adapter.lora_alpha,
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


def start_from(
    model: PeftModel, base: BaseModel, folder: Path, *, objective: Objective = "gist"
) -> Manifest:
    """Give a new adapter the weights of a trained checkpoint of the same shape.

    Returns:
        The checkpoint's manifest: what it was trained on, its heir was trained on too.

    Raises:
        UsageError: Another objective, base, number of gists or adapter shape.
    """
    manifest = read_manifest(folder)
    require_objective(manifest, objective, "adapter.start_from")
    require_base(manifest, base.reference, allow_other_precision=False)
    differing = load_adapter_weights(model, folder)
    if differing is not None:
        raise UsageError(
            f"adapter.start_from {manifest.name} has another shape than this adapter (first at "
            f"{differing}); take the adapter fields of its training configuration"
        )
    return manifest


def load_adapter_weights(model: PeftModel, folder: Path) -> str | None:
    """Give an adapter all the weights of an adapter folder, or none of them.

    Returns:
        ``None``; or, where the shapes differ, the name of the first tensor that does.
    """
    weights = load_file(folder / ADAPTER_FILE)
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    for name in sorted(own.keys() | weights.keys()):
        if name not in own or name not in weights or own[name].shape != weights[name].shape:
            return str(name)
    set_peft_model_state_dict(model, weights)
    return None


def num_trained_parameters(model: PeftModel) -> tuple[int, int]:
    """Trainable and total parameters, as PEFT counts them (4-bit weights counted whole)."""
    trainable, total = model.get_nb_trainable_parameters()
    return int(trainable), int(total)


def save_checkpoint(
    model: PeftModel,
    base: BaseModel,
    config: TrainConfig,
    gist_ids: tuple[int, ...],
    folder: Path,
    *,
    training_summary: str,
    max_trained_context_tokens: int,
    parent: Manifest | None = None,
) -> Manifest:
    """Write a checkpoint: the adapter in bf16, and its manifest last.

    A folder without a manifest is no checkpoint, so a save that was cut short is never loaded.

    Returns:
        The manifest written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    _keep_base_name(folder / ADAPTER_CONFIG_FILE, base.reference.name)
    _to_bfloat16(folder / ADAPTER_FILE)
    manifest = Manifest(
        name=config.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        base=base.reference,
        objective=config.objective,
        num_gists=len(gist_ids),
        gist_ids=gist_ids,
        prompt_template="{context}{gists}{question}" if gist_ids else "{context}{question}",
        adapter_sha256=file_sha256(folder / ADAPTER_FILE),
        adapter_config_sha256=file_sha256(folder / ADAPTER_CONFIG_FILE),
        adapter_bytes=(folder / ADAPTER_FILE).stat().st_size,
        trained_parameters=num_trained_parameters(model)[0],
        trained_on=tuple(
            dict.fromkeys((*(parent.trained_on if parent else ()), *_tasks_learned(config)))
        ),
        max_trained_context_tokens=max(
            max_trained_context_tokens, parent.max_trained_context_tokens if parent else 0
        ),
        training_summary=(
            f"{training_summary}, after {parent.name} {parent.adapter_sha256[:12]} "
            f"({parent.training_summary})"
            if parent
            else training_summary
        ),
        parent_sha256=parent.adapter_sha256 if parent else None,
        training_config=config.model_dump(mode="json"),
        versions={name: version(name) for name in ADAPTER_PACKAGES},
    )
    write_json(folder / MANIFEST_FILE, manifest)
    return manifest


def load_checkpoint(
    base: BaseModel,
    folder: Path,
    *,
    objective: Objective = "gist",
    allow_other_precision: bool = False,
) -> GistModel:
    """Put a checkpoint on its base model, in place.

    Args:
        base: The base model; do not use it as such afterwards.
        folder: The checkpoint.
        objective: What the checkpoint must have been trained for.
        allow_other_precision: Accept other weights of the same architecture.

    Raises:
        UsageError: Another base or objective, or a changed file.
        PrerequisiteError: A missing file.
    """
    manifest = read_manifest(folder)
    require_objective(manifest, objective, "checkpoint")
    require_base(manifest, base.reference, allow_other_precision=allow_other_precision)
    first_row = base.model.get_input_embeddings().num_embeddings
    if manifest.gist_ids != tuple(range(first_row, first_row + manifest.num_gists)):
        raise UsageError(
            f"checkpoint {manifest.name} has gist rows from {manifest.gist_ids[0]} on, this base "
            f"model would place them at {first_row}; pass --base {manifest.base.name}"
        )
    gist_ids = add_gist_rows(base.model, manifest.num_gists) if manifest.num_gists else ()
    wrapped = PeftModel.from_pretrained(base.model, folder)
    if manifest.answer_with == "base":
        merge_gist_rows(wrapped)
        answer_with_base(wrapped)
    elif base.reference.quantization == "none":
        # Merging quantised weights would round them again; on a CPU they may even be repacked.
        wrapped = wrapped.merge_and_unload()
    else:
        merge_gist_rows(wrapped)
    wrapped.eval()
    return GistModel(wrapped, gist_ids, manifest)


def _tasks_learned(config: TrainConfig) -> tuple[str, ...]:
    return config.data.tasks if config.weights == "real" else ()


def merge_gist_rows(model: PeftModel) -> None:
    """Write trained gist rows into the embedding, which is not quantised, in place.

    Unmerged, PEFT copies the whole embedding at every forward pass, with indices from the host.
    """
    for module in model.modules():
        if isinstance(module, TrainableTokensLayer):
            module.merge()


def _keep_base_name(path: Path, name: str) -> None:
    """PEFT records the folder the base was loaded from; a checkpoint should name the model."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields["base_model_name_or_path"] = name
    write_atomically(path, json.dumps(fields, indent=2, sort_keys=True) + "\n")


def _to_bfloat16(path: Path) -> None:
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(path).items()}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"format": "pt"})
    os.replace(temporary, path)
