"""Which of how many processes this one is, as `torchrun` and `accelerate launch` say it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gistbench.errors import UsageError

LAUNCHER_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "ROLE_RANK",
    "ROLE_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)
"""What a launcher sets. A process that is no part of the launch must not see them."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One process among those that were started together.

    Attributes:
        rank: Number of this process; number 0 alone writes and speaks.
        processes: All of them.
        local_rank: Number on this machine, which is that of its GPU.
        local_processes: Those on this machine.
    """

    rank: int = 0
    processes: int = 1
    local_rank: int = 0
    local_processes: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0


def launched(environment: Mapping[str, str] | None = None) -> Launch:
    """What the launcher says; one process alone where there is none.

    Args:
        environment: Variables; default: those of this process.

    Raises:
        UsageError: The variables are there in part, or contradict each other.
    """
    given = os.environ if environment is None else environment
    processes = _number(given, "WORLD_SIZE", 1)
    if processes == 1:
        return Launch()
    local = _number(given, "LOCAL_RANK", -1)
    found = Launch(
        rank=_number(given, "RANK", -1),
        processes=processes,
        local_rank=local,
        local_processes=_number(given, "LOCAL_WORLD_SIZE", processes),
    )
    if not (0 <= found.rank < processes and 0 <= local < found.local_processes <= processes):
        raise UsageError(
            f"WORLD_SIZE is {processes}, but RANK, LOCAL_RANK and LOCAL_WORLD_SIZE do not say "
            f"which process this is; start all with `torchrun --nproc-per-node {processes} "
            "-m gistbench ...`, or unset WORLD_SIZE"
        )
    return found


def _number(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name, "")
    return int(text) if text.isdecimal() else default
