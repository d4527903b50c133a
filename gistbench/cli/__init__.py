"""The command line: thin handlers, a file for each group of commands, heavy imports inside."""

from gistbench.cli import listings, lm_eval, results, run, train
from gistbench.cli.entry import main

__all__ = ["listings", "lm_eval", "main", "results", "run", "train"]
