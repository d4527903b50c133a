"""The errors a user can cause, as opposed to bugs.

Each message is one sentence that names the quantity, the value received, what is allowed and the
next command. Only the command line turns them into a single line and exit code 2; raised from a
library call they behave like any exception. Bugs are never wrapped: they keep their traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GistbenchError(Exception):
    """Base of every error that the command line shows as one sentence."""


class UsageError(GistbenchError):
    """The user asked for something that cannot be: a wrong name, value, file or combination."""


class TooLongError(UsageError):
    """A context that the model has no positions for."""


class DoesNotFitError(UsageError):
    """A sample whose needles take more tokens than its context is to have."""


class PrerequisiteError(GistbenchError):
    """The request is fine but something it needs is not here: a package, a device, a download."""


def did_you_mean(received: str, known: Iterable[str]) -> str:
    """Say which names exist, nearest first, as the end of an error sentence.

    Args:
        received: The name the user wrote.
        known: Every allowed name.

    Returns:
        ``"did you mean 'x'? (known: x, y)"``, or only the list when nothing is near.
    """
    names = sorted(known)
    near = difflib.get_close_matches(received, names, n=1, cutoff=0.5)
    listing = ", ".join(names) if names else "none"
    return f"did you mean {near[0]!r}? (known: {listing})" if near else f"known: {listing}"


def first_line(error: BaseException) -> str:
    """The start of a library's message, to quote inside a sentence of ours."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160].rstrip(".;:")
