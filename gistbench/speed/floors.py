"""What a pass cannot do without: seconds, from operations and bytes at the device's own rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gistbench.core.footprint import Architecture
from gistbench.core.operations import (
    TrainingStep,
    block_operations,
    decoding_bytes,
    unpacking_bytes,
)
from gistbench.records import NotMeasured, Quantity
from gistbench.speed.records import Rates


@dataclass(frozen=True, slots=True)
class Floor:
    """What a phase cannot do without.

    Attributes:
        seconds: Of all its passes.
        unpacked_parameters: 4-bit weights that each pass unpacks before it multiplies; None where
            they are not counted: on a CPU, or without a floor.
    """

    seconds: Quantity
    unpacked_parameters: int | None = None


def floor_seconds(
    sizes: Architecture,
    step: TrainingStep,
    rates: Rates,
    *,
    slots: float,
    dtype: str,
    quantization: str,
    unpacked_parameters: int,
) -> float:
    """Seconds of one forward pass: the longer of what its operations and what its bytes take.

    A weight that is unpacked is complete before its product begins, so that time comes on top.

    Args:
        sizes: The architecture.
        step: The tokens of the pass, and what they see.
        rates: Of the device.
        slots: Of each row's cache, read once; on average.
        dtype: Of the computation and the cache.
        quantization: Of the blocks.
        unpacked_parameters: Of these, what the pass unpacks.
    """
    head = 2 * sizes.hidden_size * sizes.vocab_size * step.num_turns * step.logit_tokens
    operations = block_operations(sizes, step) + head
    before = unpacking_bytes(unpacked_parameters, dtype)
    num_bytes = decoding_bytes(
        sizes,
        num_rows=step.num_sequences,
        slots=slots,
        dtype=dtype,
        quantization=quantization,
        unpacked_parameters=unpacked_parameters,
    )
    return before / rates.copy_bytes_per_second + max(
        operations / rates.matrix_operations_per_second,
        (num_bytes - before) / rates.copy_bytes_per_second,
    )


def countable(config: Any, longest: int) -> Architecture | NotMeasured:
    """The sizes that operations and bytes are counted from.

    Args:
        config: The model's transformers configuration.
        longest: Tokens of the longest sequence.

    Returns:
        Why nothing is counted, where layers see less than the whole sequence: a floor for all of
        it would be none.
    """
    fields = config.to_dict()
    window = fields.get("sliding_window")
    slides = fields.get("use_sliding_window", True)
    if window is not None and slides and window < longest:
        return NotMeasured(
            not_measured=f"layers of this model see {window:,} tokens of {longest:,}, and floors "
            "are counted for layers that see all of them"
        )
    return Architecture.of(fields)
