"""What a gate asks of a run. Every default stands in policy.yaml, and nowhere in code."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from gistbench.config import Config
from gistbench.config_files import load_yaml, merge, validate
from gistbench.report.criteria import Threshold

DEFAULTS = Path(__file__).with_name("policy.yaml")


class CellsPolicy(Config):
    """Which cells are compared; None: all that the baseline has."""

    tasks: tuple[str, ...] | None
    arms: tuple[str, ...] | None

    @field_validator("tasks", "arms")
    @classmethod
    def _at_least_one(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names == ():
            raise ValueError("names none, so nothing would be compared; name one, or write null")
        return names


class ControlsPolicy(Config):
    """How often a control that only guesses may be called worse."""

    alpha: float = Field(gt=0, lt=1, description="chance of any false alarm over all controls")


class AccuracyPolicy(Config):
    """How much accuracy may be lost, and how often that may be said wrongly."""

    margin: float = Field(gt=0, lt=1, description="largest loss of the rate that a pass allows")
    alpha: float = Field(gt=0, lt=1, description="chance of any false alarm over all cells")


class MemoryPolicy(Config):
    """How much more memory may be allocated."""

    tolerance: float = Field(ge=0, lt=1, description="share by which it may grow")
    required: bool = Field(description="refuse a run that lacks what the baseline measured")


class DeviceMemoryPolicy(MemoryPolicy):
    """How much more NVML may read."""

    slack_mib: int = Field(ge=0, description="growth below this is never a regression")


class TimePolicy(Config):
    """How much slower it may be, and how many repeats must show it."""

    alpha: float = Field(gt=0, lt=1, description="chance of any false alarm over all times")
    repeats: int = Field(ge=3, description="runs on either side, at least")
    slowdown: float = Field(ge=0, description="smallest slowdown that is a regression, a share")
    cliffs_delta: float = Field(ge=0, le=1, description="smallest effect that is a regression")
    tolerance: float = Field(gt=0, description="slowdown that a pass excludes, a share")
    required: bool = Field(description="refuse a run that lacks what the baseline measured")


class CriteriaPolicy(Config):
    """Whether criteria that passed must pass again."""

    keep: bool


class Claim(Config):
    """Something that a run is asked, whatever was before: a criterion with a bound of its own.

    Attributes:
        criterion: An id of CONCEPT.md's block; it says what is measured and how.
        at_least, above, at_most: The bound; exactly one.
        note: What a reader must know of the claim.
    """

    id: str
    title: str
    criterion: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    note: str = ""

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        _ = self.threshold  # pydantic turns its ValueError into the field's error
        return self

    @property
    def threshold(self) -> Threshold:
        """The bound as criteria have it."""
        if sum(bound is not None for bound in (self.at_least, self.above, self.at_most)) != 1:
            raise ValueError("a claim has exactly one of at_least, above, at_most")
        return Threshold(
            grade="target",
            at_least=self.at_least,
            above=self.above,
            at_most=self.at_most,
            share=1.0,
        )


class Policy(Config):
    """All of it; `policy.yaml` says what each field means."""

    compare: bool
    cells: CellsPolicy
    checkpoint: Literal["same", "any"]
    controls: ControlsPolicy
    accuracy: AccuracyPolicy
    allocated_memory: MemoryPolicy
    device_memory: DeviceMemoryPolicy
    time: TimePolicy
    criteria: CriteriaPolicy
    claims: tuple[Claim, ...]

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not self.compare and not self.claims:
            raise ValueError("compare is false and there are no claims: nothing would be asked")
        if len({claim.id for claim in self.claims}) < len(self.claims):
            raise ValueError("every claim has its own id")
        return self


def load_policy(path: Path | None = None) -> Policy:
    """The default policy, with what a file says above it.

    Args:
        path: YAML or JSON.

    Raises:
        UsageError: The file is missing or broken, or a field is unknown or not allowed.
    """
    fields: dict[str, Any] = load_yaml(DEFAULTS)
    if path is not None:
        fields = merge(fields, load_yaml(path))
    return validate(Policy, fields, str(path or DEFAULTS))
