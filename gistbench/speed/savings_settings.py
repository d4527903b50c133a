"""What a measurement of savings, or of long reads, is asked for; free of torch."""

from __future__ import annotations

from typing import Any, Literal, Self, cast, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from gistbench.metrics import GIB
from gistbench.speed.savings_records import Part, Way
from gistbench.speed.settings import SpeedModel, known, separate, whole_numbers


class SavingsConfig(SpeedModel):
    """Everything that determines what gists buy."""

    quantizations: tuple[str, ...] = Field(("none", "nf4"), description="none, nf4, by commas")
    parts: tuple[str, ...] = Field(
        get_args(Part), description="phases, stored, answered, throughput, by commas"
    )
    decoding: Literal["static", "compiled"] = Field(
        "static", description="the loop of both arms; compiled: kernels fused, anew for every batch"
    )
    context_tokens: int = Field(4925, ge=1, description="of every context")
    question_tokens: int = Field(16, ge=1, description="of every question")
    new_tokens: int = Field(24, ge=1, description="of every answer behind its first token")
    contexts: tuple[int | str, ...] = Field(
        (1, 32), description="contexts held and answered in the phases, by commas"
    )
    rounds: int = Field(5, ge=1, description="in each of which both sides take their turns")
    budget_gib: float = Field(24, gt=0, description="of device memory, CUDA's own included")
    tolerance: float = Field(
        0.01, ge=0, lt=1, description="a budget counts as filled when this share more is too much"
    )
    most_contexts: int = Field(65536, ge=1, description="filling goes no further")
    slots_multiple: int = Field(
        8, ge=1, description="buffers of answers are rounded up to so many slots"
    )
    energy_seconds: float = Field(
        1.0, ge=0, description="each phase repeats so long for its energy; 0: no energy"
    )

    @field_validator("parts", "contexts", mode="before")
    @classmethod
    def _separate(cls, value: Any) -> tuple[str, ...]:
        return separate(value)

    @field_validator("parts")
    @classmethod
    def _known_parts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return known(value, get_args(Part))

    @field_validator("contexts")
    @classmethod
    def _positive(cls, value: tuple[int | str, ...]) -> tuple[int, ...]:
        return whole_numbers(value, "contexts")

    @model_validator(mode="after")
    def _filled_before_measured(self) -> Self:
        if "throughput" in self.parts and "answered" not in self.parts:
            raise ValueError("the part throughput takes its batches from answered; name both")
        return self

    @property
    def live_tokens(self) -> int:
        """Slots that question and answer take: the first token of an answer is read by the
        second's step, the last one by none."""
        return self.question_tokens + self.new_tokens

    @property
    def longest(self) -> int:
        """Positions that a context, its gists, question and answer take."""
        return self.context_tokens + self.num_gists + self.live_tokens + 1

    @property
    def budget_bytes(self) -> int:
        """The budget, in bytes."""
        return round(self.budget_gib * GIB)

    @property
    def wanted(self) -> tuple[Part, ...]:
        """The parts in the order in which they are measured."""
        return tuple(part for part in get_args(Part) if part in self.parts)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Contexts of the phases, as a type checker wants them."""
        return tuple(int(size) for size in self.contexts)


class LengthsConfig(SpeedModel):
    """Everything that determines what long reads cost."""

    lengths: tuple[int | str, ...] = Field(
        (5000, 32000, 128000), description="context tokens, by commas"
    )
    ways: tuple[str, ...] = Field(get_args(Way), description="once, chunked, segments, by commas")
    chunk_tokens: int = Field(4096, ge=1, description="of a pass, where it is read in chunks")
    segment_tokens: int = Field(4096, ge=1, description="of a segment at most")
    rounds: int = Field(3, ge=1, description="in each of which every way takes its turn")

    @field_validator("lengths", "ways", mode="before")
    @classmethod
    def _separate(cls, value: Any) -> tuple[str, ...]:
        return separate(value)

    @field_validator("ways")
    @classmethod
    def _known_ways(cls, value: tuple[str, ...], _: ValidationInfo) -> tuple[str, ...]:
        return known(value, get_args(Way))

    @field_validator("lengths")
    @classmethod
    def _positive(cls, value: tuple[int | str, ...]) -> tuple[int, ...]:
        return tuple(sorted(whole_numbers(value, "lengths")))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The lengths, as a type checker wants them."""
        return tuple(int(size) for size in self.lengths)

    @property
    def chosen(self) -> tuple[Way, ...]:
        """The ways, likewise."""
        return tuple(cast(Way, way) for way in self.ways)
