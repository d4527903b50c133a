"""An adapter of which some passes use a part, or nothing.

Reading a context and answering from gists may be done by weights of their own. Where nothing of
the adapter answers, what answers is the base model itself, which forgot nothing; what was trained
shows in the gists' keys and values, as with ICAE's frozen decoder (Ge et al., 2023, arXiv
2307.06945). Where a part of its own answers, that part alone decides what is forgotten, and what
reads is bound by nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper

from gistbench.config import AnswerWith
from gistbench.core.layout import GistLayout

READING = ("prefix", "chunk")


def weights_by_pass(model: PeftModel, answer_with: AnswerWith) -> None:
    """Let every pass of a model choose its weights by what it is: reading or answering.

    The layout decides, and every pass has one, so no pass can run on the wrong weights. Gist rows
    of the embedding stay as they are: no question holds a gist token.

    By "own", the first half of every LoRA's ranks reads and the second half answers: two adapters
    in the tensors of one.

    Args:
        model: With LoRA; not merged. By "base", whole saved modules answer as the base's, too.
        answer_with: The weights that answer. By "adapter" every pass has the same: nothing is done.
    """
    if answer_with == "base":
        switched = _switched(model)
        _before_each_pass(model, lambda reading: _switch(switched, on=reading))

        def after(*_: Any) -> None:
            # An adapter that is off takes no gradient either.
            if torch.is_grad_enabled():
                _switch(switched, on=True)

        model.register_forward_hook(after)
    elif answer_with == "own":
        halves = [
            _Half(matrix) for layer in _lora_layers(model) for matrix in layer.lora_A.values()
        ]

        def choose(reading: bool) -> None:
            for half in halves:
                half.reads = reading

        _before_each_pass(model, choose)


def fold_answering_half(model: PeftModel) -> None:
    """Add the half that answers to the base's weights, as merging does; reading takes it off again.

    Answering then takes the base model's products and no others. Every pass is as by
    `weights_by_pass` "own", but for the rounding of the sum.

    Args:
        model: Whose ranks are halves; its base not quantised, and not to be trained further.
    """
    layers = _lora_layers(model)
    with torch.no_grad():
        for layer in layers:
            weight = layer.get_base_layer().weight
            for name, first in layer.lora_A.items():
                second, rank = layer.lora_B[name].weight, first.weight.shape[0] // 2
                added = second[:, rank:].float() @ first.weight[rank:].float()
                weight.copy_(weight.float() + layer.scaling[name] * added)
                second[:, rank:].neg_()
    # Whole saved modules read and answer alike.
    _before_each_pass(model, lambda reading: _switch(layers, on=reading))


@contextmanager
def base_weights(model: torch.nn.Module) -> Iterator[None]:
    """Let a model, or a part of it, pass as its base model does, for as long as the block lasts.

    Afterwards what is trained takes gradients again. Gist rows of the embedding stay as they are.

    Args:
        model: As for `weights_by_pass`, not by "base", whose switch it would be at odds with; or a
            module of it.
    """
    switched = _switched(model)
    _switch(switched, on=False)
    try:
        yield
    finally:
        _switch(switched, on=True)


class _Half:
    """Of what a matrix A gives, ``(..., 2 r)``, the half that this pass uses; 0 for the other.

    Attributes:
        reads: Whether this pass uses the first half.
    """

    def __init__(self, matrix: torch.nn.Module) -> None:
        self.reads = True
        matrix.register_forward_hook(self._of)

    def _of(self, _: torch.nn.Module, __: Any, given: torch.Tensor) -> torch.Tensor:
        rank = given.shape[-1] // 2
        return (
            F.pad(given[..., :rank], (0, rank))
            if self.reads
            else F.pad(given[..., rank:], (rank, 0))
        )


def _before_each_pass(model: PeftModel, choose: Callable[[bool], None]) -> None:
    def before(_: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        layout = named.get("layout")
        stage = layout.stage if isinstance(layout, GistLayout) else "suffix"
        if stage == "joint":
            raise ValueError("one pass cannot read by some weights and answer by others")
        choose(stage in READING)

    model.register_forward_pre_hook(before, with_kwargs=True)


def _lora_layers(model: torch.nn.Module) -> list[LoraLayer]:
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def _switched(model: torch.nn.Module) -> list[LoraLayer | ModulesToSaveWrapper]:
    return [
        module for module in model.modules() if isinstance(module, LoraLayer | ModulesToSaveWrapper)
    ]


def _switch(modules: Sequence[LoraLayer | ModulesToSaveWrapper], on: bool) -> None:
    for module in modules:
        if module.disable_adapters == on:
            module.enable_adapters(on)
