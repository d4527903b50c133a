"""Several runs side by side: what differs between them, and what that did to every prompt.

The first run is the reference. Answers are paired by prompt hash; where the prompts are not the
same there are rates with intervals and no verdict.
"""

from gistbench.report.compare.comparing import compare, write_comparison
from gistbench.report.compare.records import Comparison
from gistbench.report.compare.terminal import comparison_table

__all__ = ["Comparison", "compare", "comparison_table", "write_comparison"]
