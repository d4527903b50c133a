"""An optional second opinion: a model that reads a run's answers. It decides nothing."""
