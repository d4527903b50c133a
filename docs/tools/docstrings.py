"""Docstrings in Google's style, as Markdown."""

from __future__ import annotations

import inspect
from typing import Any

from docstring_parser import Docstring, DocstringStyle, parse

from docs.tools.markdown import fenced

WIDTH = 88


def parsed(thing: Any) -> Docstring:
    """A docstring's parts."""
    return parse(inspect.getdoc(thing) or "", DocstringStyle.GOOGLE)


def prose(text: str | None) -> str:
    """A docstring's paragraphs: its two backticks are Markdown's one, its lists stay lists."""
    return (text or "").strip().replace("``", "`")


def attributes(thing: Any) -> dict[str, str]:
    """Meaning of each attribute of a class; several that share a line share its text."""
    found = {}
    for parameter in parsed(thing).params:
        for name in parameter.arg_name.split(", "):
            found[name] = " ".join(prose(parameter.description).split())
    return found


def function(thing: Any) -> str:
    """A function or class: its signature, then what its docstring says."""
    doc = parsed(thing)
    parts = [fenced(signature(thing), "python"), prose(doc.short_description)]
    parts.append(prose(doc.long_description))
    if doc.params:
        items = [f"- `{p.arg_name}`: {_inline(p.description)}" for p in doc.params]
        parts.append("\n".join(items))
    if doc.returns is not None:
        parts.append(f"Returns: {_inline(doc.returns.description)}")
    for error in doc.raises:
        parts.append(f"Raises `{error.type_name}`: {_inline(error.description)}")
    return "\n\n".join(part for part in parts if part)


def signature(thing: Any) -> str:
    """As it is written in code, cut into lines where it is long."""
    of = inspect.signature(thing)
    word = "class" if inspect.isclass(thing) else "def"
    arguments = [_argument(item) for item in of.parameters.values()]
    returned = "" if inspect.isclass(thing) else f" -> {of.return_annotation}"
    line = f"{word} {thing.__name__}({', '.join(arguments)}){returned}"
    if len(line) <= WIDTH:
        return line
    inner = "".join(f"    {item},\n" for item in arguments)
    return f"{word} {thing.__name__}(\n{inner}){returned}"


def _argument(item: inspect.Parameter) -> str:
    default = "" if item.default is item.empty else f" = {item.default!r}"
    return f"{item.name}: {item.annotation}{default}"


def _inline(text: str | None) -> str:
    return " ".join(prose(text).split())
