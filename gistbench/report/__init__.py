"""From records to a scorecard: criteria, statistics, verdicts and the pages that show them.

This package reads what a run left behind and nothing else: it loads neither torch nor a model, so a
scorecard can be rendered anywhere.
"""

from gistbench.report.card import Scorecard
from gistbench.report.scorecard import render
from gistbench.report.terminal import summary_table

__all__ = ["Scorecard", "render", "summary_table"]
