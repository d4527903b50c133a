"""The tiny base model, a checkpoint on it, and one finished run."""

from __future__ import annotations

from pathlib import Path

import pytest

from gistbench.config import RunConfig
from tests.fixtures.in_process import InProcess, SilentDisplay
from tests.fixtures.tiny_base import CONTEXT_TOKENS, ruler_base, shared, tiny_base, tiny_checkpoint

__all__ = ["ruler_base", "tiny_base", "tiny_checkpoint"]


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A finished run of the base model on two samples."""
    import gistbench.bench.run as bench_run

    def build(folder: Path) -> None:
        config = RunConfig(
            models=("full",),
            base=str(tiny_base),
            context_tokens=CONTEXT_TOKENS,
            samples=2,
            device="cpu",
            dtype="float32",
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench_run, "run_worker", InProcess())
            bench_run.run(config, folder, display=SilentDisplay(), command="gistbench run")

    return shared(tmp_path_factory, "tiny-run", build)
