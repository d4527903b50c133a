"""A checkpoint on its base model, loaded to compress texts or to answer from them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gistbench.config import DType, Quantization
from gistbench.errors import UsageError
from gistbench.measurement import synchronize
from gistbench.models.catalog import ModelSource, find_model
from gistbench.models.checkpoint import GistModel, load_checkpoint
from gistbench.models.loading import BaseModel, load_base, local_folder, reference
from gistbench.models.manifest import (
    find_checkpoint,
    read_manifest,
    require_objective,
    shipped_checkpoints,
)
from gistbench.models.origin import ContextOrigin, require_base, require_checkpoint


@dataclass(frozen=True, slots=True)
class Compressor:
    """A base model and the gist checkpoint on it.

    Attributes:
        base: Tokenizer, positions, identity. Its model carries the checkpoint.
        trained: The model, its gist tokens and what its manifest says.
        device: Where it runs.
    """

    base: BaseModel
    trained: GistModel
    device: str

    @property
    def segmented(self) -> bool:
        """Whether each gist reads its own part of what is read."""
        return self.trained.manifest.gist_view == "segments"

    def seconds(self) -> float:
        """The time, once the device has finished."""
        synchronize(self.device)
        return time.perf_counter()


def load_compressor(
    checkpoint: str,
    *,
    device: str,
    base: str | None = None,
    revision: str | None = None,
    dtype: DType = "auto",
    quantization: Quantization = "none",
    allow_other_precision: bool = False,
    trust_remote_code: bool = False,
) -> Compressor:
    """Load a checkpoint to compress with.

    Args:
        checkpoint: Shipped name or folder.
        device: A torch device.
        base: Default: the checkpoint's base model.
        revision: Of a hub model.
        dtype: Of weights and cache; auto is bfloat16.
        quantization: Of the weights.
        allow_other_precision: Accept weights other than those the checkpoint was trained on.
        trust_remote_code: Run code that a model brings.

    Raises:
        GistbenchError: As `load_base` and `load_checkpoint`.
    """
    folder = find_checkpoint(checkpoint)
    manifest = read_manifest(folder)
    require_objective(manifest, "gist", "--checkpoint")
    loaded = load_base(
        find_model(base or manifest.base.name),
        dtype=torch.bfloat16 if dtype == "auto" else getattr(torch, dtype),
        device=device,
        quantization=quantization,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    trained = load_checkpoint(loaded, folder, allow_other_precision=allow_other_precision)
    return Compressor(loaded, trained, device)


def load_compressor_of(
    origins: Sequence[tuple[Path, ContextOrigin]],
    *,
    device: str,
    checkpoint: str | None = None,
    base: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Compressor:
    """Load what compressed contexts were written with, in the same precision.

    Args:
        origins: Files and what they say of themselves.
        device: A torch device.
        checkpoint: Default: the shipped one with the hash that the files name.
        base: Default: the base model that the files name.
        revision: Of a hub model.
        trust_remote_code: Run code that a model brings.

    Raises:
        UsageError: The files, the checkpoint and the base do not belong together; nothing is
            loaded then.
        GistbenchError: As `load_base` and `load_checkpoint`.
    """
    path, origin = origins[0]
    for other, says in origins[1:]:
        _require_alike(path, origin, other, says)
    folder = find_checkpoint(checkpoint) if checkpoint else _shipped(path, origin)
    require_checkpoint(origin, read_manifest(folder), path)
    source = find_model(base) if base else _its_base(path, origin)
    dtype = getattr(torch, origin.base.dtype)
    quantization = origin.base.quantization
    weights = local_folder(source, revision=revision)
    require_base(origin, reference(source, weights, dtype, quantization), path)
    loaded = load_base(
        source,
        dtype=dtype,
        device=device,
        quantization=quantization,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    # Which weights are allowed was decided when the text was compressed; they are the same here.
    trained = load_checkpoint(loaded, folder, allow_other_precision=True)
    return Compressor(loaded, trained, device)


def _its_base(path: Path, origin: ContextOrigin) -> ModelSource:
    try:
        return find_model(origin.base.name)
    except UsageError as error:
        raise UsageError(
            f"{path} was written with the base model {origin.base.name}, which is not found from "
            "here; pass --base with its name or folder"
        ) from error


def _require_alike(path: Path, one: ContextOrigin, other_path: Path, other: ContextOrigin) -> None:
    for name in ("checkpoint_sha256", "checkpoint_config_sha256", "base"):
        if getattr(one, name) != getattr(other, name):
            what = "base models" if name == "base" else "checkpoints"
            raise UsageError(
                f"{path} and {other_path} were written with different {what} ({_short(one)} and "
                f"{_short(other)}), which one model cannot answer from; ask them one by one"
            )


def _short(origin: ContextOrigin) -> str:
    base = origin.base
    return (
        f"{origin.checkpoint} {origin.checkpoint_sha256[:12]}… on {base.name} "
        f"{base.fingerprint[:12]}… in {base.dtype}, quantization {base.quantization}"
    )


def _shipped(path: Path, origin: ContextOrigin) -> Path:
    for folder in shipped_checkpoints().values():
        if read_manifest(folder).adapter_sha256 == origin.checkpoint_sha256:
            return folder
    raise UsageError(
        f"{path} was written with checkpoint {origin.checkpoint} "
        f"(sha256 {origin.checkpoint_sha256[:12]}…), which does not ship with gistbench; pass "
        "--checkpoint with its folder"
    )
