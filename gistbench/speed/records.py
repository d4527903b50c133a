"""What a speed measurement leaves behind; free of torch. Seconds, bytes, tokens."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gistbench.records import Count, NotMeasured, Provenance, Quantity, Record


class Rates(Record):
    """What the device does at best, measured in the same process right before.

    Attributes:
        matrix_operations_per_second: Of a product of two square matrices.
        matrix_size: Rows of each.
        matrix_dtype: Of both.
        copy_bytes_per_second: Bytes read and bytes written by a copy, together.
        copy_bytes: Bytes copied.
    """

    matrix_operations_per_second: float
    matrix_size: int
    matrix_dtype: str
    copy_bytes_per_second: float
    copy_bytes: int


class SpeedBase(Record):
    """The model that was measured."""

    name: str
    model_type: str
    fingerprint: str
    num_parameters: int
    dtype: str


KernelGroup = Literal[
    "matrix products",
    "attention",
    "dequantisation",
    "elementwise",
    "copies",
    "optimiser",
    "communication",
    "other",
]
"""What kernels do. Elementwise are norms, activations, losses and all other of their kind."""


class KernelShare(Record):
    """A group of kernels, or those of one name.

    Attributes:
        name: Of the group, or shortened of the kernel.
        share: Of the time of all kernels, those that overlap counted each.
        seconds_per_step: Of these kernels, one after the other.
        launches_per_step: How often they ran.
    """

    name: str
    share: float
    seconds_per_step: float
    launches_per_step: float


class Profile(Record):
    """Where the time of a step goes, traced in further steps after the timed ones.

    Attributes:
        traced: Kernels on a GPU; on a CPU operators, each without what it called.
        steps: That were traced.
        seconds_per_step: Of these steps, which tracing delays: the timed figures are elsewhere.
        idle_share: Of these seconds, in which the device ran nothing.
        groups: All groups of which anything ran, most time first.
        kernels: Those that took most.
    """

    traced: Literal["kernels", "operators"]
    steps: int
    seconds_per_step: float
    idle_share: Quantity
    groups: tuple[KernelShare, ...]
    kernels: tuple[KernelShare, ...]


class TrainingSpeed(Record):
    """Optimiser steps, one after the other, after some that were not timed.

    Attributes:
        processes: That shared every step, each on a device of its own. Tokens and operations are
            those of all of them, memory is that of the first.
        step_seconds: Of each timed step, waiting for the device at its end.
        seconds_per_step: Their median.
        tokens_per_step: Every token that goes through the model, questions and answers included.
        operations: Of a step, with nothing computed twice.
        operations_with_recompute: The same with the blocks' forward pass computed twice.
        floor_seconds: The operations at the measured matrix rate, times the processes.
        share_of_floor: Floor over measured: 1 is all that the arithmetic allows.
        torch_allocated_peak_bytes: Of the timed steps, as are the peaks below.
        managed_bytes: Of optimiser state that pages between host and device; in no figure of
            torch, and in NVML's as far as it lies on the device.
        checkpoint_bytes: Of the adapter that the training wrote.
        fused_kernels: liger-kernel's took part; its version is among the packages.
        profile: Of the first process; None where none was asked for.
    """

    preset: str
    quantization: Literal["none", "nf4"]
    gradient_checkpointing: bool
    answer_logits_only: bool
    optim: str
    micro_batch: int
    accumulation: int
    context_tokens: int
    warm_up_steps: int
    step_seconds: tuple[float, ...]
    seconds_per_step: float
    tokens_per_step: int
    tokens_per_second: float
    trainable_parameters: int
    operations: Quantity
    operations_with_recompute: Quantity
    floor_seconds: Quantity
    floor_seconds_with_recompute: Quantity
    share_of_floor: Quantity
    share_of_floor_with_recompute: Quantity
    torch_allocated_peak_bytes: Count
    torch_reserved_peak_bytes: Count
    device_used_peak_bytes: Count
    managed_bytes: int
    checkpoint_bytes: int
    processes: int = 1
    fused_kernels: bool = False
    profile: Profile | NotMeasured | None = None


class DecodingSpeed(Record):
    """One side of the decoding measurement: an arm, a loop, a precision, a batch size.

    Attributes:
        cache_slots: Slots of each row before the question.
        cache_bytes: Keys and values of all rows in them.
        decode_steps: Timed steps of each round, one token a row.
        round_seconds: Of these steps, in each round; rounds of all sides of one precision and
            batch size alternate.
        seconds_per_step: Median round over its steps.
        tokens_per_second: Over all rows.
        unpacked_parameters: 4-bit weights that a step unpacks before it multiplies; None where
            the floors do not count them: on a CPU, and in records from before they did.
        floor_bytes_per_step: Weights, and keys and values of real slots, read once; what is
            unpacked is also written, and read again.
        floor_seconds_per_step: These at the measured copy bandwidth.
        share_of_floor: Floor over measured: 1 is all that the memory allows.
        same_rows_share: Rows whose tokens are those of the eager loop. In bf16 two kernels may
            round a near tie apart, and random weights are full of near ties.
        first_token_seconds: From the question to the first token, median round.
        profile: Of decoding steps; None where none was asked for.
    """

    arm: Literal["full", "gist"]
    decoding: Literal["eager", "static", "compiled"]
    quantization: Literal["none", "nf4"]
    batch_size: int
    context_tokens: int
    question_tokens: int
    cache_slots: int
    cache_bytes: int
    decode_steps: int
    round_seconds: tuple[float, ...]
    seconds_per_step: float
    tokens_per_second: float
    first_token_seconds: float
    unpacked_parameters: int | None = None
    floor_bytes_per_step: Quantity
    floor_seconds_per_step: Quantity
    share_of_floor: Quantity
    same_rows_share: Quantity
    profile: Profile | NotMeasured | None = None


class SkippedSide(Record):
    """A side that could not be measured."""

    arm: str
    decoding: str
    quantization: str
    batch_size: int
    reason: NotMeasured


class SpeedRecord(Record):
    """A whole measurement.

    Attributes:
        accuracy: Never measured here; says why.
        training: None where decoding was measured.
        unfinished: What was done of it so far, in words; None once it is whole.
    """

    schema_version: Literal[1] = 1
    created: str = Field(description="UTC, ISO 8601")
    command: str
    settings: dict[str, Any]
    provenance: Provenance
    base: SpeedBase
    rates: Rates
    accuracy: NotMeasured
    training: TrainingSpeed | None = None
    decoding: tuple[DecodingSpeed, ...] = ()
    skipped: tuple[SkippedSide, ...] = ()
    unfinished: str | None = None
