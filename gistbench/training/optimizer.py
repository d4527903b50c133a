"""Muon for LoRA's matrices, beside the optimiser of everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Muon, Optimizer

from gistbench.config import TrainConfig
from gistbench.errors import UsageError

BESIDE_MUON = "adamw_torch"
"""How the names of optimisers begin that Muon goes with: their state is of plain tensors."""


class MuonBeside(Optimizer):
    """One optimiser of two: Muon for some matrices, another one for all other parameters.

    Muon (Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks") replaces
    the momentum of a matrix by its nearest orthogonal one, so that directions with small gradients
    move as far as those with large ones. It is made for matrices; gist rows, which are embeddings,
    stay with AdamW. Each group has its own rate, and a schedule scales both.

    Attributes:
        muon: Of the first parameter group.
        other: Of the following ones; None where nothing else is trained.
    """

    def __init__(self, muon: Muon, other: Optimizer | None) -> None:
        """Join two optimisers, of which neither has taken a step.

        Args:
            muon: With one parameter group.
            other: Of parameters that ``muon`` does not have.
        """
        self.muon, self.other = muon, other
        groups = [*muon.param_groups, *(other.param_groups if other is not None else [])]
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step with each; groups and state are those that a checkpoint may have replaced."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        parts: Iterable[tuple[Optimizer | None, list[dict[str, Any]]]] = (
            (self.muon, self.param_groups[:1]),
            (self.other, self.param_groups[1:]),
        )
        for part, groups in parts:
            if part is not None:
                part.param_groups, part.state = groups, self.state
                part.step()
        return loss


def with_muon(
    model: torch.nn.Module,
    other: Callable[..., Optimizer],
    options: dict[str, Any],
    *,
    learning_rate: float,
    weight_decay: float,
) -> MuonBeside:
    """The optimiser of a PEFT model whose LoRA matrices Muon trains.

    Args:
        model: With LoRA; only what requires a gradient is trained.
        other: Makes the optimiser of all other parameters.
        options: For it.
        learning_rate: Muon's peak: a matrix ``(out, in)`` moves by this times
            ``sqrt(max(1, out / in))`` in each of its directions.
        weight_decay: Of both.
    """
    trained = [(name, part) for name, part in model.named_parameters() if part.requires_grad]
    matrices = [part for name, part in trained if is_lora_matrix(name)]
    rest = [part for name, part in trained if not is_lora_matrix(name)]
    muon = Muon(matrices, lr=learning_rate, weight_decay=weight_decay)
    return MuonBeside(muon, other(rest, weight_decay=weight_decay, **options) if rest else None)


def is_lora_matrix(name: str) -> bool:
    """Whether a parameter of a PEFT model is one of LoRA's pairs, by its name."""
    return ".lora_A." in name or ".lora_B." in name


def require_muon(config: TrainConfig) -> None:
    """Refuse an optimiser that Muon does not go with.

    Raises:
        UsageError: Names it.
    """
    training = config.training
    if training.muon_learning_rate is None or training.optim.startswith(BESIDE_MUON):
        return
    raise UsageError(
        f"training.muon_learning_rate trains LoRA's matrices, and training.optim {training.optim} "
        "cannot train the rest beside it; pass --training.optim adamw_torch_fused"
    )
