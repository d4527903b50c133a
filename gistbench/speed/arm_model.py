"""An arm's model, loaded for a measurement as a run would load it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gistbench.config import AdapterConfig, Quantization, TrainConfig
from gistbench.models.adapter import add_adapter, add_gist_rows, merge_gist_rows
from gistbench.models.catalog import find_model
from gistbench.models.checkpoint import load_checkpoint
from gistbench.models.loading import BaseModel, load_base
from gistbench.models.manifest import base_of, find_checkpoint
from gistbench.models.random_weights import random_base
from gistbench.speed.settings import DecodedArm, SpeedModel


@dataclass(frozen=True, slots=True)
class ArmModel:
    """An arm's model, as a run would have it.

    Attributes:
        base: What it was made from; the model below may be another by now.
        model: Reads and answers.
        gist_ids: Appended to the context; empty for full context.
        segmented: As the checkpoint's gists were trained.
        num_parameters: Of the base model, before anything was added to it.
    """

    base: BaseModel
    model: torch.nn.Module
    gist_ids: tuple[int, ...] = ()
    segmented: bool = False
    num_parameters: int = 0


def load_arm(
    settings: SpeedModel, arm: DecodedArm, quantization: Quantization, device: str
) -> ArmModel:
    """Load an arm's model: merged where weights are not quantised, as in a run.

    Raises:
        GistbenchError: It cannot be had; see `load_base`, `random_base`, `load_checkpoint`.
    """
    dtype = getattr(torch, settings.dtype)
    if settings.weights == "real":
        base = load_base(
            find_model(base_of(settings.checkpoint, settings.base)),
            dtype=dtype,
            device=device,
            quantization=quantization,
            revision=settings.revision,
        )
        num_parameters = int(base.model.num_parameters())
        if arm == "full" or settings.checkpoint is None:
            return ArmModel(base, base.model, num_parameters=num_parameters)
        trained = load_checkpoint(
            base,
            find_checkpoint(settings.checkpoint),
            allow_other_precision=settings.allow_other_precision,
        )
        segmented = trained.manifest.gist_view == "segments"
        return ArmModel(base, trained.model, trained.gist_ids, segmented, num_parameters)
    base = random_base(
        settings.base or "llama-3-8b",
        dtype=dtype,
        device=device,
        quantization=quantization,
        max_positions=settings.max_positions,
        revision=settings.revision,
        seed=settings.seed,
    )
    num_parameters = int(base.model.num_parameters())
    if arm == "full":
        return ArmModel(base, base.model, num_parameters=num_parameters)
    config = TrainConfig(adapter=AdapterConfig(num_gists=settings.num_gists))
    gist_ids = add_gist_rows(base.model, settings.num_gists, seed=settings.seed)
    wrapped = add_adapter(base.model, config, gist_ids)
    model: torch.nn.Module = wrapped
    if quantization == "none":
        model = wrapped.merge_and_unload()
    else:
        merge_gist_rows(wrapped)
    return ArmModel(base, model.eval(), gist_ids, num_parameters=num_parameters)
