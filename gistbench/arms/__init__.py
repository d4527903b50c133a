"""Arms: the ways to answer from a context that a run holds side by side."""
