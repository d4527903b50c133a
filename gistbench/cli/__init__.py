"""The command line: thin handlers, a file for each group of commands, heavy imports inside."""

from gistbench.cli import (
    compare,
    context,
    gate,
    inspect,
    listings,
    lm_eval,
    results,
    run,
    speed,
    train,
)
from gistbench.cli.entry import main

__all__ = [
    "compare",
    "context",
    "gate",
    "inspect",
    "listings",
    "lm_eval",
    "main",
    "results",
    "run",
    "speed",
    "train",
]
