"""The page of all commands and flags, as cyclopts knows them."""

from __future__ import annotations

import re
from typing import get_args, get_type_hints

import gistbench.cli  # noqa: F401 - registers every command
from docs.tools.markdown import page
from gistbench.cli.app import FIELDS, app
from gistbench.config import Config

_ABOUT = """\
`gistbench COMMAND --help` shows the same. A flag that is not required may be left out; its default
stands behind it. Paths are relative to where the command runs.

**Exit codes.** 0: done. 2: a request that cannot be; one sentence says why and what to do next, and
nothing that was there is lost. 130: stopped by Ctrl-C; `run`, `train` and `judge` go on from there
when they are started again. `gistbench gate` has its own: 0 pass, 1 regression, 2 refused,
3 inconclusive."""

_FIELDS = (
    "Every field of [{name}](configuration.md#{anchor}) is a flag too, and wins over a preset or "
    "file."
)

_TITLE = re.compile(r"(?m)^#+ (gistbench .+)$")


def commands_page() -> str:
    """The page's text."""
    text = _generated()
    overview, _, rest = text.split("**Commands**:", 1)[1].strip().partition("\n\n")
    sections = re.split(r"(?m)^(?=##+ gistbench )", rest)
    return page(
        "Commands", _ABOUT, overview, *(_section(part) for part in sections if part.strip())
    )


def configurations() -> dict[str, type[Config]]:
    """Command -> the configuration whose fields are its flags, for those that have one."""
    found = {}
    for title in _TITLE.findall(_generated()):
        command = app
        for word in title.split()[1:]:
            command = command[word]
        handler = command.default_command
        kinds = get_type_hints(handler).values() if handler is not None else ()
        for kind in (part for hint in kinds for part in (hint, *get_args(hint))):
            if isinstance(kind, type) and issubclass(kind, Config):
                found[title] = kind
    return found


def _generated() -> str:
    return app.generate_docs(max_heading_level=3, usage_name="gistbench")


def _section(text: str) -> str:
    """One command, without what its page of fields says and what nobody types."""
    text, *fields = text.split(f"**{FIELDS.name}**:")
    title = text.splitlines()[0].lstrip("# ")
    if fields:
        name = configurations()[title].__name__
        text = f"{text.rstrip()}\n\n{_FIELDS.format(name=name, anchor=name.lower())}"
    text = re.sub(r"(, | )--[\w.]*empty-[\w-]+", "", text)
    text = re.sub(r"(?m)^#+ ", "## ", text.replace("```console", "```text"))
    text = re.sub(r"(?m)^(gistbench[a-z -]*) -m \S+", r"\1", text)  # how this process was run
    text = re.sub(r"(?m)\s*\n {4}(?=\S)", " ", text)  # one line an item
    text = re.sub(r"\*\[default: \(\)\]\*|\*\[default: False\]\*", "", text)
    return re.sub(r"(?m) +$", "", text).strip()
