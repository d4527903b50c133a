"""What gists buy, as a page: from the records of `gistbench speed savings` and `speed lengths`."""

from gistbench.report.savings.render import (
    lengths_tables,
    render_lengths,
    render_savings,
    savings_tables,
)

__all__ = ["lengths_tables", "render_lengths", "render_savings", "savings_tables"]
