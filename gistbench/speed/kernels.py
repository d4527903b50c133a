"""Kernels by their names: which group each belongs to, and what each group took. No torch here."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf

from gistbench.speed.records import KernelGroup, KernelShare

OTHER: KernelGroup = "other"
MOST_KERNELS = 15
MOST_CHARACTERS = 72

_PATTERNS: tuple[tuple[KernelGroup, str], ...] = (
    ("communication", r"nccl"),
    # inductor names a kernel after all that it fuses, products and attention included
    ("elementwise", r"^triton_(poi|red|per|for)_"),
    ("optimiser", r"multi_tensor_apply|fused_?adam|k(Precondition)?Optimizer|^aten::_foreach_"),
    ("optimiser", r"^aten::_fused_adam|bitsandbytes::optimizer"),
    # before the products: flash attention is written with cutlass
    ("attention", r"flash|fmha|sdpa|scaled_dot_product|attention"),
    # bitsandbytes' products of 4-bit weights too: they dequantise on the way
    ("dequantisation", r"dequantize|(gemm|gemv)_4bit"),
    ("matrix products", r"gemm|gemv|nvjet|cutlass|cublas|xmma|splitKreduce|\bdot_kernel"),
    ("matrix products", r"^triton_(tem|mm|bmm)"),
    ("matrix products", r"^aten::(mm|addmm|_addmm_activation|bmm|baddbmm|mv|addmv|dot)(_out)?$"),
    ("matrix products", r"^(aten::)?(mkl|mkldnn)\w*(::|_)\w*linear"),
    # a change of dtype or layout is a copy, though an elementwise kernel makes it
    ("copies", r"^Mem(cpy|set)|copy_kernel|CatArrayBatchedCopy"),
    ("copies", r"^aten::(copy_|_to_copy|clone|cat|fill_|zero_)$"),
    ("elementwise", r"elementwise|reduce_kernel|softmax|norm|dropout|nll_loss|cross_entropy"),
    ("elementwise", r"_?(swiglu|geglu|silu|gelu|rope|element_mul)_|_triton_rope"),
    (
        "elementwise",
        r"^aten::(_?(log_)?(add|sub|mul|div|neg|pow|sqrt|rsqrt|mean|sum|exp|cos|sin|where|"
        r"tanh|sigmoid|argmax|addcmul|addcdiv|lerp|masked_fill|eq|ne|lt|le|gt|ge|bitwise_\w+|"
        r"logical_\w+|\w+_backward(_data)?))_?$",
    ),
)
RULES = tuple((group, re.compile(pattern, re.IGNORECASE)) for group, pattern in _PATTERNS)
"""The first that is found in a kernel's name, or in an operator's on a CPU, decides."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel as it ran, or one operator on a CPU.

    Attributes:
        name: In full.
        start: Seconds, from wherever.
        end: Likewise.
        seconds: That it took: from start to end, or what an operator left to no other.
    """

    name: str
    start: float
    end: float
    seconds: float


def group_of(name: str) -> KernelGroup:
    """The group of a kernel or an operator."""
    return next((group for group, rule in RULES if rule.search(name)), OTHER)


def short(name: str) -> str:
    """A name of bounded length; a signature without namespaces, and what it takes and returns."""
    if re.search(r"[\w>]\(", name):
        name = re.sub(r"\(anonymous namespace\)::|<unnamed>::|^void ", "", name)
        name = re.sub(r"\b[A-Za-z_]\w*::(?=[A-Za-z_])", "", name[: _end_of_name(name)])
    return name if len(name) <= MOST_CHARACTERS else f"{name[: MOST_CHARACTERS - 1]}…"


def _end_of_name(signature: str) -> int:
    """Where its own parameters begin: at the first parenthesis in no template's arguments."""
    depth = 0
    for place, character in enumerate(signature):
        depth += (character == "<") - (character == ">")
        if character == "(" and depth == 0:
            return place
    return len(signature)


def covered(launches: Iterable[Launch]) -> float:
    """Seconds in which at least one ran: what overlaps counts once."""
    seconds, until = 0.0, -inf
    for launch in sorted(launches, key=lambda item: item.start):
        seconds += max(0.0, launch.end - max(launch.start, until))
        until = max(until, launch.end)
    return seconds


def idle_share(busy_seconds: float, wall_seconds: float) -> float:
    """The share of the wall time in which nothing ran; never below 0, for two clocks differ."""
    return max(0.0, 1.0 - busy_seconds / wall_seconds)


def by_group(launches: Sequence[Launch], steps: int) -> tuple[KernelShare, ...]:
    """What each group took, most first; a group of which nothing ran is left out."""
    return _shares(launches, steps, group_of)


def by_name(launches: Sequence[Launch], steps: int) -> tuple[KernelShare, ...]:
    """What each kernel took, most first, and no more than a few of them."""
    return _shares(launches, steps, short)[:MOST_KERNELS]


def _shares(
    launches: Sequence[Launch], steps: int, key: Callable[[str], str]
) -> tuple[KernelShare, ...]:
    seconds: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, int] = defaultdict(int)
    keys: dict[str, str] = {}
    for launch in launches:
        name = keys.get(launch.name) or keys.setdefault(launch.name, key(launch.name))
        seconds[name] += launch.seconds
        counts[name] += 1
    total = sum(seconds.values())
    return tuple(
        KernelShare(
            name=name,
            share=seconds[name] / total,
            seconds_per_step=seconds[name] / steps,
            launches_per_step=counts[name] / steps,
        )
        for name in sorted(seconds, key=lambda name: -seconds[name])
    )
