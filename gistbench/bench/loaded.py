"""One arm's model, loaded as its worker's job says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from gistbench.arms.base import Reader
from gistbench.arms.catalog import find_arm
from gistbench.bench.job import Job
from gistbench.errors import PrerequisiteError
from gistbench.evaluation.engine import Engine, PhaseMarker
from gistbench.measurement import synchronize
from gistbench.models.catalog import ModelSource, find_model
from gistbench.models.checkpoint import load_checkpoint
from gistbench.models.gist_file import GistStore
from gistbench.models.joint import join_projections
from gistbench.models.loading import BaseModel, key_value_bytes_per_token, load_base
from gistbench.models.manifest import Manifest, find_checkpoint
from gistbench.models.static import decoding_loop
from gistbench.records import BaseModelRecord

GISTS_FOLDER = "gists"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A worker's model and what a record says of it."""

    engine: Engine
    manifest: Manifest | None
    record: BaseModelRecord
    dtype: torch.dtype

    @property
    def weights_bytes(self) -> int:
        """Bytes of all parameters and buffers, as stored."""
        model = self.engine.reader.model
        tensors = {
            tensor.data_ptr(): tensor.numel() * tensor.element_size()
            for tensor in (*model.parameters(), *model.buffers())
        }
        return sum(tensors.values())


def resolve_device(wanted: str) -> str:
    """The torch device of this process.

    Raises:
        PrerequisiteError: CUDA was asked for and is not usable.
    """
    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda:0"
    if wanted == "cuda":
        raise PrerequisiteError(
            "--device cuda needs an NVIDIA GPU that this PyTorch can use, and finds none "
            f"(torch {torch.__version__}); pass --device cpu or install a CUDA build of PyTorch"
        )
    return "cpu"


def num_gpus() -> int:
    """GPUs that this PyTorch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def load(job: Job, device: str, phase: PhaseMarker) -> Loaded:
    """Load an arm's base model and, where it uses one, the checkpoint.

    Raises:
        GistbenchError: Something of the job cannot be had; see `load_base`, `load_checkpoint`.
    """
    arm = find_arm(job.arm)
    source = find_model(job.base)
    dtype = torch.bfloat16 if job.dtype == "auto" else getattr(torch, job.dtype)
    base = load_base(
        source,
        dtype=dtype,
        device=device,
        quantization=job.quantization,
        revision=job.revision,
        trust_remote_code=job.trust_remote_code,
    )
    record = _record(base, source, dtype)
    model: torch.nn.Module = base.model
    gist_ids: tuple[int, ...] = ()
    manifest = None
    objective = arm.uses_checkpoint
    name = job.tuned_checkpoint if objective == "full" else job.checkpoint
    if name is not None and objective is not None:
        trained = load_checkpoint(
            base,
            find_checkpoint(name, objective),
            objective=objective,
            allow_other_precision=job.allow_other_precision,
        )
        model, gist_ids, manifest = trained.model, trained.gist_ids, trained.manifest
    if job.decoding != "eager":
        join_projections(model)
    store = GistStore(Path(job.folder) / GISTS_FOLDER, device) if job.keep_gists else None
    segmented = manifest is not None and manifest.gist_view == "segments"
    reader = Reader(model, gist_ids, store, base.tokenizer, segmented, job.chunk_tokens)
    clock, loop = device_clock(device), decoding_loop(job.decoding)
    engine = Engine(base, arm, reader, device, clock, phase, loop)
    return Loaded(engine, manifest, record, dtype)


def device_clock(device: str) -> Callable[[], float]:
    """A clock that is read only when the device has finished."""

    def read() -> float:
        synchronize(device)
        return time.perf_counter()

    return read


def _record(base: BaseModel, source: ModelSource, dtype: torch.dtype) -> BaseModelRecord:
    config = base.model.config
    return BaseModelRecord(
        name=_public_name(source),
        source=source.kind,
        model_type=base.reference.model_type,
        fingerprint=base.reference.fingerprint,
        weights_note=source.weights_note,
        dtype=base.reference.dtype,
        quantization=base.reference.quantization,
        num_parameters=base.model.num_parameters(),
        num_layers=config.num_hidden_layers,
        max_positions=base.max_positions,
        key_value_bytes_per_token=key_value_bytes_per_token(config, dtype),
    )


def _public_name(source: ModelSource) -> str:
    """A base model's name without the folders of this machine; hub names stay whole."""
    return source.name if source.kind == "hub" else Path(source.name).name
