"""The criteria of CONCEPT.md as validated values.

CONCEPT.md is written for people and holds exactly one fenced block, tagged `yaml criteria`.
What is judged is what stands there: no threshold or weight is repeated in code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gistbench.errors import UsageError
from gistbench.metrics import format_percent, format_ratio

CONCEPT_FILE = "CONCEPT.md"

_OPENING = re.compile(r"^```yaml[ \t]+criteria[ \t]*$", re.MULTILINE)
_CLOSING = re.compile(r"^```[ \t]*$", re.MULTILINE)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Threshold(_Part):
    """One grade: a bound that a whole interval must meet, and the share of the weight it earns.

    Attributes:
        grade: "target" where a criterion has only one, else for instance "good" and "fair".
        at_least: Lower bound, included.
        above: Lower bound, excluded.
        at_most: Upper bound, included.
        share: Share of the criterion's weight, above 0 and at most 1.
    """

    grade: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    share: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if sum(bound is not None for bound in (self.at_least, self.above, self.at_most)) != 1:
            raise ValueError("a threshold has exactly one of at_least, above, at_most")
        return self

    @property
    def direction(self) -> Literal["higher", "lower"]:
        """Which side of the bound is wanted."""
        return "higher" if self.at_most is None else "lower"

    @property
    def value(self) -> float:
        """The bound itself."""
        bounds = (self.at_least, self.above, self.at_most)
        return next(bound for bound in bounds if bound is not None)

    @property
    def kind(self) -> Literal["at least", "above", "at most"]:
        """The bound's kind in words."""
        if self.at_most is not None:
            return "at most"
        return "above" if self.above is not None else "at least"

    def meets(self, value: float) -> bool:
        """Whether one value meets the bound."""
        if self.above is not None:
            return value > self.above
        return value >= self.value if self.at_most is None else value <= self.value


class Conditions(_Part):
    """What must hold for a measurement to count for this criterion."""

    task: str | None = None
    contexts: int | None = Field(default=None, gt=0)


class Criterion(_Part):
    """One row of the block. Thresholds stand best grade first."""

    id: str
    title: str
    metric: str
    unit: Literal["ratio", "share"]
    direction: Literal["higher", "lower"]
    thresholds: tuple[Threshold, ...] = Field(min_length=1)
    weight: float = Field(gt=0, le=100)
    seed_claim: str
    conditions: Conditions = Conditions()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if any(threshold.direction != self.direction for threshold in self.thresholds):
            raise ValueError(f"every threshold of {self.id} must fit direction {self.direction}")
        if self.thresholds[0].share != 1:
            raise ValueError(f"the best grade of {self.id} must earn all of its weight")
        sign = -1 if self.direction == "higher" else 1
        for better, worse in zip(self.thresholds, self.thresholds[1:], strict=False):
            if better.share <= worse.share or sign * better.value >= sign * worse.value:
                raise ValueError(f"the grades of {self.id} must stand from best to worst")
        return self

    def format(self, value: float) -> str:
        """A value of this criterion with its unit."""
        return format_ratio(value) if self.unit == "ratio" else format_percent(value)

    def format_bound(self, value: float) -> str:
        """A bound as it stands in CONCEPT.md, without decimals that nobody wrote."""
        return f"{value:g}x" if self.unit == "ratio" else f"{100 * value:g} %"

    def target_text(self) -> str:
        """The thresholds in words, for instance ``above 90 %``."""
        words = []
        for threshold in self.thresholds:
            bound = f"{threshold.kind} {self.format_bound(threshold.value)}"
            words.append(bound if threshold.grade == "target" else f"{threshold.grade}: {bound}")
        return "; ".join(words)


class CriteriaBlock(_Part):
    """The whole block; the weights add up to 100."""

    version: Literal[1]
    criteria: tuple[Criterion, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        ids = [criterion.id for criterion in self.criteria]
        if len(set(ids)) != len(ids):
            raise ValueError("every criterion has its own id")
        total = sum(criterion.weight for criterion in self.criteria)
        if total != 100:
            raise ValueError(f"the weights must add up to 100, they add up to {total:g}")
        return self

    def __getitem__(self, name: str) -> Criterion:
        return next(criterion for criterion in self.criteria if criterion.id == name)


def concept_path() -> Path:
    """CONCEPT.md of a checkout (beside the package), else the copy inside an installed package.

    Raises:
        UsageError: There is neither.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent, package):
        if (folder / CONCEPT_FILE).is_file():
            return folder / CONCEPT_FILE
    raise UsageError(
        f"{CONCEPT_FILE} is neither in {package.parent} nor in {package}; "
        "restore it or install gistbench again"
    )


def load_criteria(path: Path | None = None) -> CriteriaBlock:
    """Read and validate the block.

    Args:
        path: A CONCEPT.md; the project's own by default.

    Raises:
        UsageError: The file cannot be read, or its block is missing, double or broken; the line in
            the file is named.
    """
    path = path or concept_path()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read ({type(error).__name__}); name a {CONCEPT_FILE}"
        ) from error
    block, first_line = _cut_block(text, path)
    try:
        raw = yaml.safe_load(block)
        node = yaml.compose(block, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = first_line + (mark.line if mark else 0)
        problem = error.problem or error.context
        raise UsageError(f"{path} line {line}: not valid YAML ({problem}); correct it") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} line {first_line}: not valid YAML; correct it") from error
    try:
        return CriteriaBlock.model_validate(raw)
    except ValidationError as error:
        unknown_first = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        first = unknown_first[0]
        field = ".".join(str(part) for part in first["loc"]) or "criteria"
        line = first_line + _line_of(node, first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{path} line {line}: {field}: {message}; correct it") from error


def _cut_block(text: str, path: Path) -> tuple[str, int]:
    """The block's text and the number of its first line in the file."""
    openings = list(_OPENING.finditer(text))
    if len(openings) != 1:
        lines = ", ".join(str(text.count("\n", 0, found.start()) + 1) for found in openings)
        where = f"{len(openings)} (lines {lines})" if openings else "none"
        raise UsageError(f"{path} must hold exactly one ```yaml criteria block, found {where}")
    start = openings[0].end() + 1
    first_line = text.count("\n", 0, start) + 1
    closing = _CLOSING.search(text, start)
    if closing is None:
        raise UsageError(f"{path} line {first_line - 1}: the criteria block is never closed by ```")
    return text[start : closing.start()], first_line


def _line_of(node: yaml.Node | None, loc: Sequence[int | str]) -> int:
    """Line, from 0, of the deepest node that a validation error's location leads to."""
    line = node.start_mark.line if node else 0
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = next((v for k, v in node.value if k.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = node.value[part] if part < len(node.value) else None
        else:
            found = None
        if found is None:
            break
        node, line = found, found.start_mark.line
    return line
