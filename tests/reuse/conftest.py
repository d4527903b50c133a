"""The tiny base model and a checkpoint on it, loaded to compress with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.tiny_base import shared, tiny_base, tiny_checkpoint

__all__ = ["shared", "tiny_base", "tiny_checkpoint"]


@pytest.fixture(scope="session")
def compressor(tiny_base: Path, tiny_checkpoint: Path) -> Any:
    """In float32 on the CPU."""
    from gistbench.reuse.model import load_compressor

    return load_compressor(str(tiny_checkpoint), device="cpu", dtype="float32")
