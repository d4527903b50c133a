"""A tiny base model, a checkpoint on it, and runs of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gistbench.bench.run as bench_run
from gistbench.config import RunConfig
from tests.fixtures.in_process import InProcess, SilentDisplay
from tests.fixtures.tiny_base import (
    CONTEXT_TOKENS,
    ruler_base,
    tiny_base,
    tiny_checkpoint,
    tiny_tuned_checkpoint,
)

__all__ = ["ruler_base", "tiny_base", "tiny_checkpoint", "tiny_tuned_checkpoint"]


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Workers run here, and are counted."""
    workers = InProcess()
    monkeypatch.setattr(bench_run, "run_worker", workers)
    return workers


@pytest.fixture
def display() -> SilentDisplay:
    return SilentDisplay()


@pytest.fixture
def settings(tiny_checkpoint: Path) -> Callable[..., RunConfig]:
    """Settings of a small run; any field can be changed."""

    def make(**changes: Any) -> RunConfig:
        fields: dict[str, Any] = {
            "models": ("gist", "full"),
            "checkpoint": str(tiny_checkpoint),
            "context_tokens": CONTEXT_TOKENS,
            "samples": 6,
            "device": "cpu",
            "dtype": "float32",
        }
        return RunConfig.model_validate({**fields, **changes})

    return make
