"""The scorecard section by section: evidence in, records of `gistbench.report.card` out."""
