"""A baseline: what a run must hold so that a later one can be compared with it, prompt by prompt.

It is a file for people to review: keys stand in a fixed order, prompts in the order of their
hashes, and a changed answer changes one character. It holds no text of any prompt or answer.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from gistbench.errors import UsageError, did_you_mean, first_line
from gistbench.records import NotMeasured, Record
from gistbench.report.card import Outcome
from gistbench.storage import write_atomically

FOLDER = Path("baselines")
HASH_DIGITS = 16
HASHES_A_LINE, OUTCOMES_A_LINE = 5, 80

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
TimeMetric = Literal["read the context", "first token", "decode step"]


class ArmCell(Record):
    """What one arm did in one cell.

    Attributes:
        right: How many prompts it answered exactly right.
        outcomes: One digit for each prompt of the cell, 1 where the answer was exactly right.
        cache_bytes: Of the keys and values, over all samples.
        cache_tokens: Slots per layer, over all samples.
    """

    right: int
    outcomes: tuple[str, ...]
    cache_bytes: int
    cache_tokens: int

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        digits = "".join(self.outcomes)
        if set(digits) - {"0", "1"} or digits.count("1") != self.right:
            raise ValueError(f"outcomes must be 0 or 1 and hold {self.right} of the latter")
        return self


class BaselineCell(Record):
    """One task at one length, and every arm's answers to it.

    Attributes:
        prompts: The first 16 hexadecimal digits of each prompt's SHA-256, in ascending order.
        samples_sha256: As in the run: of all prompt hashes, in the order of the samples.
    """

    task: str
    version: str
    split: str
    context_tokens: int
    seed: int
    num_samples: int
    samples_sha256: str
    prompts: tuple[str, ...]
    arms: dict[str, ArmCell]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        hashes = self.hashes
        if len(hashes) != self.num_samples or list(hashes) != sorted(set(hashes)):
            raise ValueError(f"prompts must be {self.num_samples} different hashes in order")
        for name, arm in self.arms.items():
            if len("".join(arm.outcomes)) != self.num_samples:
                raise ValueError(f"outcomes of {name} must be {self.num_samples} digits")
        return self

    @property
    def hashes(self) -> tuple[str, ...]:
        """The prompts' hashes, one by one."""
        return tuple(word for line in self.prompts for word in line.split())

    def right(self, arm: str) -> dict[str, bool]:
        """Prompt hash -> whether an arm answered it exactly right."""
        digits = "".join(self.arms[arm].outcomes)
        return {key: digit == "1" for key, digit in zip(self.hashes, digits, strict=True)}


class HeldMemory(Record):
    """Memory with contexts held and nothing running."""

    contexts_held: int
    context_tokens: int
    allocated_bytes: int
    device_used_bytes: int | NotMeasured


class RunTimes(Record):
    """One run's times of one arm: a repeat.

    Attributes:
        created: When the run was written, ISO 8601.
        seconds: The run's median of each time that it measured.
    """

    created: str
    seconds: dict[TimeMetric, float]


class BaselineArm(Record):
    """One arm as a whole."""

    weights: Literal["base", "base+adapter"]
    weights_bytes: int
    held_one: HeldMemory | NotMeasured
    held_many: HeldMemory | NotMeasured
    times: tuple[RunTimes, ...]


class BaselineModel(Record):
    """What was evaluated, and on what."""

    base: str
    base_sha256: str
    dtype: str
    quantization: str
    checkpoint: str | None
    checkpoint_sha256: str | None
    tuned_checkpoint: str | None
    tuned_checkpoint_sha256: str | None
    device_name: str


class Origin(Record):
    """Where the figures come from."""

    command: str
    created: str
    gistbench_version: str
    git_commit: str | None
    git_dirty: bool | None
    python: str
    platform: str
    packages: dict[str, str]


class CriterionOutcome(Record):
    """How a run met a criterion of CONCEPT.md, and the best grade that it reached."""

    outcome: Outcome
    grade: str | None


class TimeConditions(Record):
    """What times depend on beside model and device."""

    batch_size: int
    contexts_held: int
    context_tokens: int


class Baseline(Record):
    """An accepted run.

    Attributes:
        name: Of the file, without its ending.
        reason: Why it was accepted, in a person's words.
        accepted: When, UTC, ISO 8601.
    """

    schema_version: Literal[1] = 1
    kind: Literal["gistbench baseline"] = "gistbench baseline"
    name: str
    reason: str = Field(min_length=1)
    accepted: str
    origin: Origin
    model: BaselineModel
    criteria: dict[str, CriterionOutcome]
    timed_with: TimeConditions | NotMeasured
    arms: dict[str, BaselineArm]
    cells: tuple[BaselineCell, ...]

    @property
    def title(self) -> str:
        """Name and date, as reports call it."""
        return f"{self.name}, accepted {self.accepted[:10]}"


def path_of(name: str, folder: Path = FOLDER) -> Path:
    """Where the baseline of a name lies.

    Raises:
        UsageError: The name is no file name for all systems.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--name {name!r} cannot be a file's name everywhere; use lower-case letters, digits, "
            "dots, dashes and underscores"
        )
    return folder / f"{name}.json"


def in_lines(words: list[str], a_line: int, joint: str) -> tuple[str, ...]:
    """Words in lines of so many, so that a difference shows where it is."""
    return tuple(joint.join(words[at : at + a_line]) for at in range(0, len(words), a_line))


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write a baseline whole or not at all.

    Fields keep the order of the records, names within them are sorted.
    """
    fields = baseline.model_dump(mode="json")
    for part in (fields["criteria"], fields["arms"], fields["origin"]["packages"]):
        _sort(part)
    for cell in fields["cells"]:
        _sort(cell["arms"])
    write_atomically(path, json.dumps(fields, indent=1, ensure_ascii=False) + "\n")


def _sort(part: dict[str, Any]) -> None:
    items = sorted(part.items())
    part.clear()
    part.update(items)


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        UsageError: It is missing, cut short, edited so that it contradicts itself, or none.
    """
    if path.is_dir():
        raise UsageError(
            f"{path} is a folder; name a file that `gistbench baseline accept` wrote, for instance "
            f"{FOLDER / 'NAME.json'}"
        )
    if not path.is_file():
        near = [str(found) for found in sorted(path.parent.glob("*.json"))]
        hint = f" ({did_you_mean(str(path), near)})" if near else ""
        raise UsageError(
            f"there is no baseline {path}{hint}; accept a run as one with `gistbench baseline "
            'accept RUN_DIR --name NAME --reason "..."`'
        )
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read as a baseline ({first_line(error)}); restore it from version "
            "control"
        ) from error
    kind = fields.get("kind") if isinstance(fields, dict) else None
    if kind != "gistbench baseline":
        raise UsageError(
            f"{path} is no baseline; name a file that `gistbench baseline accept` wrote"
        )
    if fields.get("schema_version") != 1:
        raise UsageError(
            f"{path} has schema version {fields.get('schema_version')}, this gistbench reads 1; "
            "use the gistbench that wrote it, or accept a new baseline"
        )
    try:
        return Baseline.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the record"
        message = first["msg"].removeprefix("Value error, ").lower()
        raise UsageError(
            f"{path}: {field}: {message}; the file was edited: restore it from version control"
        ) from error
