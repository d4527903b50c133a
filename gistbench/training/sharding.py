"""A frozen base model that does not fit on one GPU, spread over those of all processes.

Its layers are sharded by FSDP2 (PyTorch's `fully_shard`): each process holds a part of every
layer's weights, and all of a layer while it computes. What is trained is small and stays whole in
every process, where it is trained as without sharding. So states and checkpoints are the same
files, and no process ever has to collect the base model.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from gistbench.config import TrainConfig
from gistbench.errors import UsageError
from gistbench.launch import Launch


def require_shardable(config: TrainConfig, launch: Launch) -> None:
    """Refuse to shard what cannot be, or among whom there is nobody to share it.

    Raises:
        UsageError: Says which.
    """
    if not config.training.shard_base:
        return
    if launch.processes == 1:
        raise UsageError(
            "training.shard_base spreads the base model over processes, and there is one; start "
            "several with `torchrun --nproc-per-node N -m gistbench train ...`, or leave it out"
        )
    if config.base.quantization != "none":
        raise UsageError(
            f"training.shard_base cannot cut weights in {config.base.quantization}, which are "
            "packed; pass --base.quantization none, or leave it out"
        )
    if config.data.questions_per_context > 1:
        # Gradients then reach the reading through its keys and values alone, for which FSDP2
        # does not fetch a layer's weights again.
        raise UsageError(
            f"data.questions_per_context {config.data.questions_per_context} does not go with "
            "training.shard_base; pass --data.questions-per-context 1, or leave it out"
        )
    if config.adapter.answer_with != "adapter":  # two passes, as with several questions
        raise UsageError(
            f"adapter.answer_with {config.adapter.answer_with} does not go with "
            "training.shard_base; pass --adapter.answer-with adapter, or leave training.shard_base "
            "out"
        )


def shard(model: PreTrainedModel, device: torch.device) -> None:
    """Spread the layers of a frozen model over all processes, in place.

    Layers are moved to the device one by one, as their parts; whatever else there is (embedding,
    output matrix) is moved whole.

    Args:
        model: On the host, before an adapter is added: what comes later is not sharded.
        device: Of this process.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    layers = model.base_model.layers
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    in_layers = {parameter for layer in layers for parameter in layer.parameters()}
    elsewhere = set(model.parameters()) - in_layers
    # The model as a whole only keeps the order of its layers, so that the next is fetched early.
    fully_shard(model, mesh=mesh, ignored_params=elsewhere)
    for parameter in elsewhere:
        parameter.data = parameter.data.to(device)


def in_parallel(
    model: torch.nn.Module, accelerator: Accelerator, *, find_unused_parameters: bool
) -> DistributedDataParallel:
    """Let data parallelism synchronise the trained weights, and never the shards.

    `Accelerator.prepare_model` takes any shard on a GPU for one that it was to shard itself, and
    refuses; of all that it does, only its mixed precision is wanted here.

    Args:
        model: Its base model's layers are shards.
        accelerator: Of the trainer.
        find_unused_parameters: Some trained weights may take no part in a step.
    """
    prepared: torch.nn.Module = accelerator.prepare_model(
        model, device_placement=False, evaluation_mode=True
    )
    shards = [name for name, weight in prepared.named_parameters() if isinstance(weight, DTensor)]
    leave = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    leave(prepared, shards)  # type: ignore[no-untyped-call]
    device = accelerator.device
    return DistributedDataParallel(
        prepared,
        device_ids=None if device.type == "cpu" else [device],
        broadcast_buffers=False,
        find_unused_parameters=find_unused_parameters,
    )


def has_shards(model: torch.nn.Module) -> bool:
    """Whether `shard` has cut any of its weights."""
    return any(isinstance(weight, DTensor) for weight in model.parameters())
