"""The page of presets: the files as they ship."""

from __future__ import annotations

from docs.tools.markdown import fenced, page
from gistbench.config_files import PRESETS, preset_names

_ABOUT = """\
A preset is a file that a person can read; `gistbench train --preset NAME` takes it, flags win over
it. What a preset leaves out has the default of [its field](configuration.md#trainconfig)."""


def presets_page() -> str:
    """The page's text."""
    parts = []
    for name in preset_names():
        text = (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")
        parts += [f"## {name}", fenced(text, "yaml")]
    return page("Presets", _ABOUT, *parts)
