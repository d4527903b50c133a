"""The page of configuration fields, from the models that validate them."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs.tools.commands import configurations
from docs.tools.docstrings import attributes
from docs.tools.markdown import code, fenced, page, table
from gistbench.gate.policy import DEFAULTS, Claim

_ABOUT = """\
A configuration is a [preset](presets.md) or a YAML file with these fields, and any field is a flag
that wins over both. Unknown fields are refused, the nearest name suggested. What ran is stored
whole in `gist.json` (a checkpoint) and `run.json` (a run).

| field | in a file | on the command line |
|---|---|---|
| `training.max_steps` | `max_steps: 500` under `training:` | `--training.max-steps 500` |
| a list | `tasks: [niah_uuid, niah_update]` | its flag again, or commas where it says so |
| true or false | `fill_batches: false` | `--training.no-fill-batches` |
| `null` | `null` | not given |"""

_POLICY = """\
What `gistbench gate --policy FILE` reads; a file needs only what differs from the default. The
[CI page](../ci.md) shows it in use, and [the gate's error rates](../gate.md) are those of these
defaults:"""

_CLAIMS = "A claim is a criterion of [CONCEPT.md](../../CONCEPT.md) with a bound of its own:"


def configuration_page() -> str:
    """The page's text."""
    parts = []
    taken = configurations()
    for model in dict.fromkeys(taken.values()):
        commands = ", ".join(code(name) for name, other in taken.items() if other is model)
        parts += [f"## {model.__name__}", f"{_summary(model)} Taken by {commands}."]
        groups = [name for name, info in model.model_fields.items() if _group(info)]
        own = [name for name in model.model_fields if name not in groups]
        parts.append(_table(model, own, ""))
        for name in groups:
            group = _group(model.model_fields[name])
            assert group is not None
            parts += [f"### {name}", _summary(group), _table(group, list(group.model_fields), name)]
    policy = fenced(DEFAULTS.read_text(encoding="utf-8"), "yaml")
    parts += ["## Gate policy", _POLICY, policy, _CLAIMS, _claim_table()]
    return page("Configuration fields", _ABOUT, *parts)


def _table(model: type[BaseModel], names: list[str], prefix: str) -> str:
    rows = []
    for name in names:
        info = model.model_fields[name]
        path = f"{prefix}.{name}" if prefix else name
        meaning = info.description or ""
        rows.append(
            (code(path), type_text(info.annotation), _default(info), meaning + _bounds(info))
        )
    return table(("field", "type", "default", "what it is"), rows)


def _claim_table() -> str:
    told = attributes(Claim)
    rows = [
        (code(name), type_text(info.annotation), told.get(name, ""))
        for name, info in Claim.model_fields.items()
    ]
    return table(("field", "type", "what it is"), rows)


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")


def _group(info: FieldInfo) -> type[BaseModel] | None:
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def type_text(kind: Any) -> str:
    """A type in a reader's words."""
    if kind is type(None):
        return "none"
    if str(get_origin(kind)) in ("typing.Literal", "<class 'typing.Literal'>"):
        return " or ".join(code(value) for value in get_args(kind))
    if get_origin(kind) is tuple:
        inner = [part for part in get_args(kind) if part is not Ellipsis]
        fixed = Ellipsis not in get_args(kind)
        named = ", ".join(type_text(part) for part in inner)
        return f"({named})" if fixed else f"list of {named}"
    if get_origin(kind) is dict:
        key, value = get_args(kind)
        return f"map of {type_text(key)} to {type_text(value)}"
    if get_args(kind):
        return " or ".join(type_text(part) for part in get_args(kind))
    words = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "anything"}
    return words.get(kind, getattr(kind, "__name__", str(kind)))


def _default(info: FieldInfo) -> str:
    return code(_shown(info.get_default(call_default_factory=True)))


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {item}' for name, item in value.items())}}}"
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


def _bounds(info: FieldInfo) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = [
        f"{text} {getattr(item, name):g}"
        for item in info.metadata
        for name, text in words.items()
        if getattr(item, name, None) is not None
    ]
    return f" ({', '.join(found)})" if found else ""
