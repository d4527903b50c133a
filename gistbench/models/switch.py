"""An adapter that is switched off for some passes.

Off in answers, it writes the gists alone. What answers is then the base model itself, which forgot
nothing; what was trained shows in the gists' keys and values, as with ICAE's frozen decoder (Ge et
al., 2023, arXiv 2307.06945).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper

from gistbench.core.layout import GistLayout

READING = ("prefix", "chunk")


def answer_with_base(model: PeftModel) -> None:
    """Let every pass of a model choose its weights by what it is: reading or answering.

    The layout decides, and every pass has one, so no pass can run on the wrong weights. Gist rows
    of the embedding stay as they are: no question holds a gist token.

    Args:
        model: With LoRA or whole saved modules; not merged.
    """
    switched = _switched(model)

    def switch(on: bool) -> None:
        _switch(switched, on)

    def before(_: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        layout = named.get("layout")
        stage = layout.stage if isinstance(layout, GistLayout) else "suffix"
        if stage == "joint":
            raise ValueError("one pass cannot read with an adapter and answer without it")
        switch(stage in READING)

    def after(*_: Any) -> None:
        # An adapter that is off takes no gradient either.
        if torch.is_grad_enabled():
            switch(True)

    model.register_forward_pre_hook(before, with_kwargs=True)
    model.register_forward_hook(after)


@contextmanager
def base_weights(model: torch.nn.Module) -> Iterator[None]:
    """Let a model, or a part of it, pass as its base model does, for as long as the block lasts.

    Afterwards what is trained takes gradients again. Gist rows of the embedding stay as they are.

    Args:
        model: As for `answer_with_base`, whose switch it would be at odds with; or a module of it.
    """
    switched = _switched(model)
    _switch(switched, on=False)
    try:
        yield
    finally:
        _switch(switched, on=True)


def _switched(model: torch.nn.Module) -> list[LoraLayer | ModulesToSaveWrapper]:
    return [
        module for module in model.modules() if isinstance(module, LoraLayer | ModulesToSaveWrapper)
    ]


def _switch(modules: list[LoraLayer | ModulesToSaveWrapper], on: bool) -> None:
    for module in modules:
        if module.disable_adapters == on:
            module.enable_adapters(on)
