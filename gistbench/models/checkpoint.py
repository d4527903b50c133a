"""Checkpoints: saving what was trained on a base model, loading it back.

A checkpoint is a PEFT adapter folder that plain PEFT loads, with a manifest beside it. It holds
only what was trained: LoRA matrices and the gist rows (or, for the seed recipe, whole matrices).
Trained with the whole context visible, it has no gist rows and the base keeps its vocabulary.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from gistbench.config import AnswerWith, Objective, TrainConfig
from gistbench.errors import UsageError
from gistbench.models.adapter import (
    add_gist_rows,
    load_adapter_weights,
    merge_gist_rows,
    num_trained_parameters,
)
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
from gistbench.models.switch import fold_answering_half, weights_by_pass
from gistbench.storage import write_atomically, write_json

ADAPTER_PACKAGES = ("torch", "transformers", "peft")


@dataclass(frozen=True, slots=True)
class GistModel:
    """A base model with a trained adapter, ready to read contexts.

    Attributes:
        model: With gist rows; merged into plain modules where the weights are not quantised, so
            that it runs exactly the operations of the base model. Not merged where other weights
            answer than read, see `gistbench.models.switch`.
        gist_ids: Vocabulary rows of the gist tokens; empty by objective "full".
        manifest: What the checkpoint says of itself.
    """

    model: torch.nn.Module
    gist_ids: tuple[int, ...]
    manifest: Manifest


def start_from(
    model: PeftModel,
    base: BaseModel,
    folder: Path,
    *,
    objective: Objective = "gist",
    answer_with: AnswerWith = "adapter",
) -> Manifest:
    """Give a new adapter the weights of a trained checkpoint of the same shape and scale.

    Gists may start from a model that was tuned to answer with the whole context before it: it has
    no gist rows, so they stay as they were drawn. How gists were read, LoRA's dropout and whether
    the base answered may differ: the weights mean the same. What answers by weights of its own
    starts from those that answered: the adapter's, or the base's.

    Returns:
        The checkpoint's manifest: what it was trained on, its heir was trained on too.

    Raises:
        UsageError: Another base, number of gists, adapter shape or LoRA scale; gists, to be trained
            with the whole context; whole modules, of a model that has no gist rows; or weights that
            answer alone, where those that read are to answer.
    """
    manifest = read_manifest(folder)
    if manifest.answer_with == "own" != answer_with:
        raise UsageError(
            f"adapter.start_from {manifest.name} reads and answers by two LoRA, and they cannot "
            "become one; pass --adapter.answer-with own"
        )
    if objective == "full":
        require_objective(manifest, objective, "adapter.start_from")
    require_base(manifest, base.reference, allow_other_precision=False)
    lora = json.loads((folder / ADAPTER_CONFIG_FILE).read_text(encoding="utf-8"))
    if manifest.objective != objective and lora["modules_to_save"]:
        raise UsageError(
            f"adapter.start_from {manifest.name} has whole modules "
            f"({', '.join(lora['modules_to_save'])}), and gists can start from LoRA alone, since "
            "gist rows make the vocabulary another size; name a checkpoint that `gistbench train "
            f"--objective {manifest.objective}` wrote without adapter.modules_to_save"
        )
    differing = load_adapter_weights(
        model,
        folder,
        without_gist_rows=manifest.objective != objective,
        answering_half=manifest.answer_with if answer_with == "own" else None,
    )
    if differing is not None:
        raise UsageError(
            f"adapter.start_from {manifest.name} has another shape than this adapter (first at "
            f"{differing}); take the adapter fields of its training configuration"
        )
    mine = model.active_peft_config
    if mine.lora_alpha * lora["r"] != lora["lora_alpha"] * mine.r:
        halves = 2 if manifest.answer_with == "own" else 1
        raise UsageError(
            f"adapter.start_from {manifest.name} was trained with another LoRA scale, and at "
            f"{mine.lora_alpha / mine.r:g} instead of {lora['lora_alpha'] / lora['r']:g} its "
            "weights would do something else; pass --adapter.lora-alpha "
            f"{lora['lora_alpha'] // halves}"
        )
    return manifest


def save_checkpoint(
    model: PeftModel,
    base: BaseModel,
    config: TrainConfig,
    gist_ids: tuple[int, ...],
    folder: Path,
    *,
    training_summary: str,
    max_trained_context_tokens: int,
    tasks: Sequence[str],
    parent: Manifest | None = None,
) -> Manifest:
    """Write a checkpoint: the adapter in bf16, and its manifest last.

    A folder without a manifest is no checkpoint, so a save that was cut short is never loaded.

    Args:
        model: With the adapter.
        base: What it is on.
        config: Of the training.
        gist_ids: Rows of the gist tokens.
        folder: To write to.
        training_summary: One line.
        max_trained_context_tokens: Of the longest context that it read, its parent's aside.
        tasks: That it learned from, its parent's aside.
        parent: What it started from.

    Returns:
        The manifest written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    _keep_base_name(folder / ADAPTER_CONFIG_FILE, base.reference.name)
    _to_bfloat16(folder / ADAPTER_FILE)
    # With the whole context before it, a parent learned to write gists at no length.
    of_its_kind = parent is not None and parent.objective == config.objective
    inherited = parent.max_trained_context_tokens if parent and of_its_kind else 0
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
        trained_on=tuple(dict.fromkeys((*(parent.trained_on if parent else ()), *tasks))),
        max_trained_context_tokens=max(max_trained_context_tokens, inherited),
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
    # Merging quantised weights would round them again; on a CPU they may even be repacked.
    mergeable = base.reference.quantization == "none"
    if mergeable and manifest.answer_with == "adapter":
        wrapped = wrapped.merge_and_unload()
    else:
        merge_gist_rows(wrapped)
        if mergeable and manifest.answer_with == "own":
            fold_answering_half(wrapped)
        else:
            weights_by_pass(wrapped, manifest.answer_with)
    wrapped.eval()
    return GistModel(wrapped, gist_ids, manifest)


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
