"""Which architecture's operations a floor counts, and when there is none to count."""

from __future__ import annotations

from typing import Any

from gistbench.core.footprint import Architecture
from gistbench.records import NotMeasured


def countable(config: Any, longest: int) -> Architecture | NotMeasured:
    """The sizes that operations and bytes are counted from.

    Args:
        config: The model's transformers configuration.
        longest: Tokens of the longest sequence.

    Returns:
        Why nothing is counted, where layers see less than the whole sequence: a floor for all of
        it would be none.
    """
    fields = config.to_dict()
    window = fields.get("sliding_window")
    slides = fields.get("use_sliding_window", True)
    if window is not None and slides and window < longest:
        return NotMeasured(
            not_measured=f"layers of this model see {window:,} tokens of {longest:,}, and floors "
            "are counted for layers that see all of them"
        )
    return Architecture.of(fields)
