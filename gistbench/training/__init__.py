"""Training gist checkpoints on transformers.Trainer."""
