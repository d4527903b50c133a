"""The mathematics of gist compression: torch, and nothing of any model or library around it."""
