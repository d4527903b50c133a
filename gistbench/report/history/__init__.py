"""Runs of the same thing over time: what moved, and which step a paired test can tell."""

from gistbench.report.history.building import history, write_history
from gistbench.report.history.records import History
from gistbench.report.history.terminal import history_table

__all__ = ["History", "history", "history_table", "write_history"]
