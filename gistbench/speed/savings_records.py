"""What a measurement of savings leaves behind; free of torch. Seconds, bytes, joules, tokens."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gistbench.records import Count, NotMeasured, Provenance, Quantity, Record
from gistbench.speed.records import Rates, SpeedBase

Arm = Literal["full", "gist"]
Part = Literal["phases", "stored", "answered", "throughput"]
SavingsPhase = Literal["compress", "steady", "question", "decode"]
Way = Literal["once", "chunked", "segments"]
Outcome = Literal["fits", "over budget", "out of memory"]


class KeyValues(Record):
    """Keys and values of one context, as predicted from the architecture and as they are.

    Attributes:
        slots: Of each layer.
        predicted_bytes: Slots times the bytes of one token.
        measured_bytes: Of the tensors that one read left.
        allocated_bytes: What torch's allocator grew by for one context, where many were stored;
            it hands out multiples of 512 bytes.
    """

    arm: Arm
    slots: int
    predicted_bytes: int
    measured_bytes: int
    allocated_bytes: Count

    @property
    def equal(self) -> bool:
        """To the byte."""
        return self.predicted_bytes == self.measured_bytes


class PhaseCost(Record):
    """One phase of one arm.

    Attributes:
        phase: Reading a context; holding contexts while nothing runs; reading the questions of a
            batch; its decoding steps.
        contexts: Held, or answered together. Contexts are always read one at a time.
        round_seconds: Of the whole phase, rounds of both arms alternating; none for the steady
            state.
        steps: Decoding steps in the phase, one token a row; 0 in the others.
        floor_seconds: What the arithmetic and the memory of the device cannot do without, at the
            rates measured in this process: the longer of the two.
        unpacked_parameters: 4-bit weights that a pass unpacks before it multiplies, counted in
            the floor; None where they are not: on a CPU, and in records from before they were.
        floor_bytes: Weights and keys and values that have to be there, for the steady state.
        torch_allocated_bytes: At the peak; of the steady state, while nothing runs.
        torch_reserved_bytes: Likewise.
        device_bytes: What this process holds on the device by NVML, likewise.
        joules: Of the whole device, idle power included, for one phase; of the steady state, for
            one second.
    """

    arm: Arm
    phase: SavingsPhase
    contexts: int
    round_seconds: tuple[float, ...] = ()
    steps: int = 0
    floor_seconds: Quantity
    unpacked_parameters: int | None = None
    floor_bytes: Quantity
    torch_allocated_bytes: Count
    torch_reserved_bytes: Count
    device_bytes: Count
    joules: Quantity


class Probe(Record):
    """One attempt to bring contexts into the budget.

    Attributes:
        used_bytes: Of the budget, at the end; None where memory ran out before.
        question_seconds: Where they were answered: reading the questions.
        decode_seconds: The steps behind the first tokens.
    """

    contexts: int
    outcome: Outcome
    used_bytes: int | None = None
    question_seconds: float | None = None
    decode_seconds: float | None = None


class Filled(Record):
    """A budget that was filled.

    Attributes:
        fits: Most contexts that fitted, tried twice.
        fails: Fewest above that did not; None where filling ended without such.
        ended_by: The budget; the device, which has less than the budget; or the limit of the
            search.
        probes: In the order of their execution.
    """

    arm: Arm
    fits: int
    fails: int | None
    ended_by: Literal["budget", "device", "limit"]
    probes: tuple[Probe, ...]


class BudgetRounds(Record):
    """The fastest batch within the budget, again in rounds that alternate with the other arm's.

    Attributes:
        contexts: Rows of the batch.
        question_seconds: Of each round.
        decode_seconds: Of each round.
        steps: Decoding steps in these, one token a row.
        floor_seconds: Of these steps.
        unpacked_parameters: As in `PhaseCost`.
    """

    arm: Arm
    contexts: int
    question_seconds: tuple[float, ...]
    decode_seconds: tuple[float, ...]
    steps: int
    floor_seconds: Quantity
    unpacked_parameters: int | None = None


class PrecisionSavings(Record):
    """Both arms at one precision. A part that was not asked for, or is yet to come, is None."""

    quantization: Literal["none", "nf4"]
    weights_bytes: Count = Field(description="allocated by torch before any context was read")
    adapter_bytes: int = Field(description="of these, what only gists need")
    key_values: tuple[KeyValues, ...] = ()
    phases: tuple[PhaseCost, ...] | None = None
    skipped: tuple[str, ...] = ()
    stored: tuple[Filled, ...] | NotMeasured | None = None
    answered: tuple[Filled, ...] | NotMeasured | None = None
    throughput: tuple[BudgetRounds, ...] | NotMeasured | None = None


class SavingsRecord(Record):
    """A whole measurement, or as much of it as there is yet.

    Attributes:
        checkpoint_sha256: Of the adapter; None with random weights.
        budget_counts: How the bytes within the budget were counted.
        accuracy: Never measured here; says why.
    """

    schema_version: Literal[1] = 1
    created: str = Field(description="UTC, ISO 8601")
    command: str
    settings: dict[str, Any]
    provenance: Provenance
    base: SpeedBase
    rates: Rates
    accuracy: NotMeasured
    checkpoint_sha256: str | None = None
    budget_counts: str
    precisions: tuple[PrecisionSavings, ...] = ()


class LongRead(Record):
    """One context, read in one way.

    Attributes:
        way: At once; in chunks, which give the same gists; in segments, each dropped before the
            next is read.
        kept_slots: Of each layer, afterwards.
        round_seconds: Of the read, in rounds in which all ways alternate.
        peak_bytes: Most that torch had allocated.
        needed_bytes: Of these, what was allocated before and the keys and values that the read
            holds by prediction. The rest are activations.
    """

    way: Way
    context_tokens: int
    kept_slots: int
    round_seconds: tuple[float, ...]
    peak_bytes: Count
    needed_bytes: Count


class SkippedRead(Record):
    """A read that could not be measured."""

    way: Way
    context_tokens: int
    reason: NotMeasured


class PrecisionReads(Record):
    """All reads at one precision."""

    quantization: Literal["none", "nf4"]
    reads: tuple[LongRead, ...] = ()
    skipped: tuple[SkippedRead, ...] = ()


class LengthsRecord(Record):
    """What long contexts cost to read."""

    schema_version: Literal[1] = 1
    created: str = Field(description="UTC, ISO 8601")
    command: str
    settings: dict[str, Any]
    provenance: Provenance
    base: SpeedBase
    accuracy: NotMeasured
    precisions: tuple[PrecisionReads, ...] = ()
