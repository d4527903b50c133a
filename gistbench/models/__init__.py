"""Language models around the core: loading, gist tokens, caches, checkpoints, decoding."""
