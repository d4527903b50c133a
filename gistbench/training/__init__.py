"""Training checkpoints on transformers.Trainer."""
