"""Configurations from presets, YAML files and flags, or one sentence on what is wrong with them.

Presets are YAML files in ``gistbench/presets/``. A configuration is a preset or a file, with any
field overridden on the command line (``--training.max-steps 500``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from gistbench.config import Config
from gistbench.errors import UsageError, did_you_mean

PRESETS = Path(__file__).resolve().parent / "presets"

ConfigT = TypeVar("ConfigT", bound=Config)


def preset_names() -> list[str]:
    """Names of the presets that ship."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(name: str) -> dict[str, Any]:
    """A preset's fields.

    Raises:
        UsageError: No such preset; the nearest is suggested.
    """
    if name not in preset_names():
        raise UsageError(f"unknown preset {name!r}, {did_you_mean(name, preset_names())}")
    return load_yaml(PRESETS / f"{name}.yaml")


def load_yaml(path: Path) -> dict[str, Any]:
    """Fields of a YAML file.

    Raises:
        UsageError: The file is missing, or broken: with the line.
    """
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {(error.strerror or '').lower()}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not a YAML text file"
        raise UsageError(f"{path}{where}: {problem}; mend the YAML there") from error
    if fields is None:
        return {}
    if not isinstance(fields, dict):
        raise UsageError(f"{path}: expected fields and values, got a {type(fields).__name__}")
    return fields


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Nested fields, ``above`` winning."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = merge(dict(old or {}), value) if both else value
    return merged


def validate(kind: type[ConfigT], fields: dict[str, Any], where: str) -> ConfigT:
    """Build a configuration, or say in one sentence which field is wrong.

    Raises:
        UsageError: A field is unknown (the nearest is suggested) or its value is not allowed.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        path = [str(part) for part in first["loc"]]
        name = ".".join(path) or "the configuration"
        if first["type"] == "extra_forbidden":
            known = _field_names(kind, path[:-1])
            raise UsageError(
                f"{where}: unknown field {name!r}, {did_you_mean(path[-1], known)}"
            ) from error
        raise UsageError(f"{where}: {first_problem(error)}") from error


def first_problem(error: ValidationError) -> str:
    """The first wrong field of a validation: its name, what is allowed, the value received."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"]) or "the configuration"
    received = first.get("input")
    shown = f", got {received!r}" if not isinstance(received, (dict, BaseModel)) else ""
    message = first["msg"].removeprefix("Value error, ")
    return f"{name}: {message[0].lower()}{message[1:]}{shown}"


def _field_names(kind: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        annotation = kind.model_fields[part].annotation if part in kind.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        kind = annotation
    return list(kind.model_fields)
