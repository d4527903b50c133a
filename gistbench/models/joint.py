"""Projections that read the same input as one product over one matrix, where a step asks for it.

For one row a product takes as long as its matrix is read, and the matrices of a layer's queries,
keys and values are too small to keep a large GPU busy while they are. Weights of such siblings are
laid one behind the other, and stay the parameters that they were; only within
`JointProjections.products` are they multiplied at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeGuard

import torch
from torch.nn import functional as F

SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Linear layers of one module that read one input, the one that is called first in front."""


class JointProjections:
    """The siblings of a model, their weights laid together.

    No parameter is replaced, renamed or changed, and no memory is added but that of one group
    while it is laid. Parameters that are moved or replaced later, as by ``model.to()``, are no
    longer together; their products are then taken one by one again.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        """Lay the weights of all siblings together that are not so yet.

        Siblings are left alone that are anything but plain linear layers (4-bit ones, or such as
        carry a LoRA), or that differ in device or dtype.
        """
        self._groups = [_Group(linears) for linears in _siblings(model)]
        # Made once, since a compiled step expects the forwards that it was compiled with. Not kept
        # by the groups: in a circle, they would hold the weights until the collector comes.
        self._forwards = [
            [partial(group.part, number) for number in range(len(group.linears))]
            for group in self._groups
        ]
        for group in self._groups:
            group.lay_together()

    def __len__(self) -> int:
        """Groups whose weights lie together now."""
        return sum(group.lies_together for group in self._groups)

    @contextmanager
    def products(self) -> Iterator[None]:
        """Multiply the weights that lie together at once, until the end of the block.

        Where gradients are recorded, nothing is: the joint matrix is no parameter.
        """
        groups = () if torch.is_grad_enabled() else zip(self._groups, self._forwards, strict=True)
        with ExitStack() as stack:
            for group, forwards in groups:
                if group.lies_together:
                    stack.enter_context(group.product(forwards))
            yield


def join_projections(model: torch.nn.Module) -> int:
    """Lay the siblings of a model together now, before memory is measured or filled.

    Returns:
        Groups that lie together.
    """
    return len(JointProjections(model))


class _Group:
    """Linear layers with one input. The first takes the product of all; the others their part.

    Attributes:
        linears: In the order of their rows in the joint matrix.
    """

    def __init__(self, linears: Sequence[torch.nn.Linear]) -> None:
        self.linears = linears
        self._sizes = [linear.out_features for linear in linears]
        self._weight: Any = None
        self._bias: Any = None
        self._let_go()

    def _let_go(self) -> None:
        self._input: torch.Tensor | None = None
        self._parts: list[torch.Tensor | None] = []

    @property
    def lies_together(self) -> bool:
        """Whether weights, and biases if there are any, lie one behind the other."""
        return all(_joint(tensors) is not None for tensors in self._tensors())

    def _tensors(self) -> list[list[torch.Tensor]]:
        """Weights, and biases if there are any."""
        weights: list[torch.Tensor] = [linear.weight.detach() for linear in self.linears]
        biases = [linear.bias.detach() for linear in self.linears if linear.bias is not None]
        return [weights, biases] if biases else [weights]

    def lay_together(self) -> None:
        """Copy weights and biases behind each other, unless they are. What was there is freed."""
        if self.lies_together:
            return
        # As the parameters are: what is made in inference mode cannot be trained outside of it.
        made_in_inference = self.linears[0].weight.is_inference()
        with torch.inference_mode(made_in_inference), torch.no_grad():
            for name in ("weight", "bias") if self.linears[0].bias is not None else ("weight",):
                parameters = [getattr(linear, name) for linear in self.linears]
                joint = torch.cat([parameter.detach() for parameter in parameters])
                parts = joint.split_with_sizes(self._sizes)
                for parameter, part in zip(parameters, parts, strict=True):
                    parameter.data = part
        if joint.is_cuda:
            # The old matrices are too small to hold the next joint one, so they would stay cached.
            torch.cuda.empty_cache()

    @contextmanager
    def product(self, forwards: Sequence[Callable[..., torch.Tensor]]) -> Iterator[None]:
        """Let the layers' forwards be these, which ask for their `part`."""
        joints = [_joint(tensors) for tensors in self._tensors()]
        self._weight, self._bias = joints[0], joints[1] if len(joints) > 1 else None
        changed: list[Any] = list(self.linears)
        for linear, forward in zip(changed, forwards, strict=True):
            linear.forward = forward
        try:
            yield
        finally:
            for linear in changed:
                del linear.forward
            # The joint matrix would keep weights that are moved later; the parts, activations.
            self._weight = self._bias = None
            self._let_go()

    def part(self, number: int, hidden: torch.Tensor) -> torch.Tensor:
        """The product of one layer, ``(..., out_features)``, from ``(..., in_features)``.

        The first layer takes the product of all. The others find their part where they are given
        the very tensor that it was; given another, they take their own product.
        """
        if number == 0:
            product = F.linear(hidden, self._weight, self._bias)
            parts = product.split_with_sizes(self._sizes, dim=-1)
            self._input, self._parts = hidden, [None, *parts[1:]]
            return parts[0]
        mine = self._parts[number] if hidden is self._input else None
        if mine is None:
            linear = self.linears[number]
            return F.linear(hidden, linear.weight, linear.bias)
        self._parts[number] = None
        if all(part is None for part in self._parts):
            self._let_go()
        return mine


def _siblings(model: torch.nn.Module) -> Iterator[list[torch.nn.Linear]]:
    for module in model.modules():
        for names in SIBLINGS:
            children = [getattr(module, name, None) for name in names]
            linears = [child for child in children if _is_plain(child)]
            if len(linears) == len(names) and len({_kind(linear) for linear in linears}) == 1:
                yield linears


def _is_plain(layer: object) -> TypeGuard[torch.nn.Linear]:
    """Neither a subclass, as 4-bit layers are, nor with a forward of its own, as a hook gives."""
    if type(layer) is not torch.nn.Linear or "forward" in vars(layer):
        return False
    return layer.weight.device.type != "meta"


def _kind(linear: torch.nn.Linear) -> tuple[object, ...]:
    """What must be the same for matrices that are to be one."""
    weight, bias = linear.weight, linear.bias
    kind = (linear.in_features, weight.device, weight.dtype)
    return kind if bias is None else (*kind, bias.device, bias.dtype)


def _joint(tensors: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """One tensor over tensors that lie one behind the other in one storage; None if they do not."""
    first = tensors[0]
    end = first.storage_offset()
    for tensor in tensors:
        same = tensor.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (same and tensor.is_contiguous() and tensor.storage_offset() == end):
            return None
        end += tensor.numel()
    rows = sum(tensor.shape[0] for tensor in tensors)
    return first.as_strided((rows, *first.shape[1:]), first.stride())
