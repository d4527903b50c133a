"""The tiny base model and a checkpoint on it."""

from tests.fixtures.tiny_base import ruler_base, tiny_base, tiny_checkpoint

__all__ = ["ruler_base", "tiny_base", "tiny_checkpoint"]
