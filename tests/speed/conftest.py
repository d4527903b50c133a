"""The tiny base model and a checkpoint on it."""

from tests.fixtures.tiny_base import tiny_base, tiny_checkpoint

__all__ = ["tiny_base", "tiny_checkpoint"]
