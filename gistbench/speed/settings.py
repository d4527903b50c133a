"""What a speed measurement is asked for; free of torch."""

from __future__ import annotations

from typing import Any, Literal, Self, cast, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from gistbench.config import Config, Decoding, Quantization, Weights
from gistbench.errors import did_you_mean

DecodedArm = Literal["full", "gist"]


class SpeedModel(Config):
    """The model that is measured, and what it reads."""

    base: str | None = Field(
        None, description="default: the checkpoint's, or llama-3-8b with random weights"
    )
    weights: Weights = Field("real", description="random: drawn on the device; no accuracy")
    max_positions: int | None = Field(
        None, ge=1, description="with random weights: positions that the model is given"
    )
    checkpoint: str | None = Field(
        None, description="of the arm gist; with random weights an adapter of the default shape"
    )
    revision: str | None = Field(None, description="of a hub model")
    quantizations: tuple[str, ...] = Field(("none",), description="none, nf4, by commas")
    dtype: Literal["float32", "bfloat16"] = Field("bfloat16", description="of the computation")
    num_gists: int = Field(10, ge=1, description="without a checkpoint")
    seed: int = Field(0, description="of weights and token ids")
    allow_other_precision: bool = Field(
        False, description="accept weights other than those the checkpoint was trained on"
    )

    @field_validator("quantizations", mode="before")
    @classmethod
    def _separate_quantizations(cls, value: Any) -> tuple[str, ...]:
        return separate(value)

    @field_validator("quantizations")
    @classmethod
    def _known_quantizations(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return known(value, get_args(Quantization))

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.weights == "random" and self.checkpoint is not None:
            raise ValueError("a checkpoint does not go on random weights; drop --checkpoint")
        if self.weights == "real" and self.needs_gists and self.checkpoint is None:
            raise ValueError(
                "the arm gist needs --checkpoint, or --weights random to measure without one"
            )
        if self.max_positions is not None and self.weights == "real":
            raise ValueError("max_positions lengthens random weights alone; add --weights random")
        return self

    @property
    def needs_gists(self) -> bool:
        """Whether anything is compressed."""
        return True

    @property
    def precisions(self) -> tuple[Quantization, ...]:
        """The quantisations, as a type checker wants them."""
        return tuple(cast(Quantization, name) for name in self.quantizations)


def separate(value: Any) -> tuple[str, ...]:
    """A list, or words separated by commas; each once."""
    parts = value if isinstance(value, (list, tuple)) else (value,)
    words = [word.strip() for part in parts for word in str(part).split(",") if word.strip()]
    if not words:
        raise ValueError("nothing is named; give at least one")
    return tuple(dict.fromkeys(words))


def known(value: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The same words, none of them unknown."""
    for word in value:
        if word not in allowed:
            raise ValueError(f"{word!r} cannot be measured, {did_you_mean(word, allowed)}")
    return value


def whole_numbers(value: tuple[int | str, ...], what: str) -> tuple[int, ...]:
    """Words as numbers from 1 on."""
    if not all(str(size).isdecimal() and int(size) > 0 for size in value):
        raise ValueError(f"{what} are whole numbers from 1 on, separated by commas")
    return tuple(int(size) for size in value)


class DecodeSpeedConfig(SpeedModel):
    """Everything that determines a measurement of decoding speed."""

    arms: tuple[str, ...] = Field(("full", "gist"), description="separated by commas")
    decodings: tuple[str, ...] = Field(("static", "eager"), description="loops, by commas")
    batch_sizes: tuple[int | str, ...] = Field(
        (1, 32), description="contexts answered together, by commas"
    )
    context_tokens: int = Field(4925, ge=1, description="of every context")
    question_tokens: int = Field(16, ge=1, description="of every question")
    new_tokens: int = Field(64, ge=1, description="timed decoding steps, the same in every round")
    rounds: int = Field(5, ge=1, description="in each of which every side takes its turn")

    @field_validator("arms", "decodings", "batch_sizes", mode="before")
    @classmethod
    def _separate(cls, value: Any) -> tuple[str, ...]:
        return separate(value)

    @field_validator("arms", "decodings")
    @classmethod
    def _known(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return known(value, get_args(DecodedArm if info.field_name == "arms" else Decoding))

    @field_validator("batch_sizes")
    @classmethod
    def _positive(cls, value: tuple[int | str, ...]) -> tuple[int, ...]:
        return whole_numbers(value, "batch sizes")

    @property
    def needs_gists(self) -> bool:
        """Whether the arm gist is among the sides."""
        return "gist" in self.arms

    @property
    def longest(self) -> int:
        """Positions that a context, its gists, question and answer take."""
        gists = self.num_gists if "gist" in self.arms else 0
        return self.context_tokens + gists + self.question_tokens + self.new_tokens + 1

    @property
    def sides(self) -> tuple[tuple[DecodedArm, Decoding], ...]:
        """Arms and loops that take turns."""
        return tuple(
            (cast(DecodedArm, arm), cast(Decoding, loop))
            for arm in self.arms
            for loop in self.decodings
        )

    @property
    def arm_names(self) -> tuple[DecodedArm, ...]:
        """The arms, as a type checker wants them."""
        return tuple(cast(DecodedArm, arm) for arm in self.arms)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes, likewise."""
        return tuple(int(size) for size in self.batch_sizes)
