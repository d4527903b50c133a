"""Full context after training: the upper bound that gists are fairly held against."""

from __future__ import annotations

from dataclasses import dataclass

from gistbench.arms.full import Full


@dataclass(frozen=True)
class FullTuned(Full):
    """Full context, read by weights that were trained on the task with all of it visible."""

    family = "full-tuned"
    uses_checkpoint = "full"
