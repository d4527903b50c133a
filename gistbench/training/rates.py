"""Learning rates of parts of what is trained."""

from __future__ import annotations

import torch


def raise_rate_of_b(optimizer: torch.optim.Optimizer, model: torch.nn.Module, ratio: float) -> None:
    """Give LoRA's B matrices a multiple of the rate, in groups of their own, in place.

    Everything else about the optimiser, and about each parameter's group, stays as it is.

    Args:
        optimizer: Of the model's trained parameters, before its first step.
        model: With LoRA.
        ratio: Rate of B over that of all else.
    """
    of_b = {id(part) for name, part in model.named_parameters() if ".lora_B." in name}
    for group in tuple(optimizer.param_groups):
        apart = [part for part in group["params"] if id(part) in of_b]
        if apart:
            group["params"] = [part for part in group["params"] if id(part) not in of_b]
            optimizer.add_param_group({**group, "params": apart, "lr": ratio * group["lr"]})
