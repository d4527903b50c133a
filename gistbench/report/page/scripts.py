"""The script that a page carries: inline, and allowed by its own hash alone.

A page is whole without it. What a model wrote can never run beside it: the page's policy names the
sha256 of this one text, and no other script is let through.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources

from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Script:
    """A script as a template prints it.

    Attributes:
        text: Between the tags, to the last character.
        hash: As a Content-Security-Policy names it, without the quotes around it.
    """

    text: Markup
    hash: Markup


def page_script(name: str) -> Script:
    """Read a script that lies beside the templates.

    Raises:
        ValueError: The text would end its own element.
    """
    text = resources.files("gistbench.report.page").joinpath("templates", name).read_text("utf-8")
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError(f"{name} holds what would end the element that carries it")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(text=Markup(text), hash=Markup(f"sha256-{digest}"))
