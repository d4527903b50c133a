"""Foreign text made safe to look at.

A model's output is shown as text and never as anything else. Escaping for HTML is the template
engine's work; here invisible characters become visible, so that nothing can reorder, hide or break
the line that shows it.
"""

from __future__ import annotations

import unicodedata

_NAMES = {"\n": "LF", "\r": "CR", "\t": "TAB", "\0": "NUL", "\x1b": "ESC"}
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str) -> str:
    """Replace control, bidirectional, zero-width and unassigned characters by printable marks.

    Common ones get their name (⟨LF⟩, ⟨NUL⟩), the others their code (⟨U+202E⟩). Text that went
    through once does not change again.
    """
    if text.isprintable():  # almost all text is, and this is much faster
        return text
    return "".join(_picture(c) if unicodedata.category(c) in _HIDDEN else c for c in text)


def visible_ends(text: str) -> str:
    """Like `visible`, and spaces at either end become ⟨SP⟩, since strict matching sees them."""
    shown = visible(text)
    inner = shown.strip(" ")
    left = len(shown) - len(shown.lstrip(" "))
    right = len(shown) - len(inner) - left
    return "⟨SP⟩" * left + inner + "⟨SP⟩" * right


def cut(text: str, limit: int, *, keep_end: bool = False) -> tuple[str, int]:
    """Shorten a text.

    Returns:
        At most `limit` characters, from the end if `keep_end`, and how many were cut.
    """
    if len(text) <= limit:
        return text, 0
    kept = text[len(text) - limit :] if keep_end else text[:limit]
    return kept, len(text) - limit


def cut_note(number: int) -> str:
    """How much was cut, in words; empty for nothing."""
    return f"{number:,} characters cut" if number else ""


def _picture(character: str) -> str:
    return f"⟨{_NAMES.get(character) or f'U+{ord(character):04X}'}⟩"
