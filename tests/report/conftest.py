"""Synthetic runs, written to a folder and read back as the report does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gistbench.report.evidence import Evidence, load_evidence
from tests.fixtures.ladder_run import LadderRun
from tests.fixtures.synthetic_run import SyntheticRun


@pytest.fixture(scope="session")
def gpu_run() -> SyntheticRun:
    """Forty samples on a GPU; gist right in all, full in 16, controls in none."""
    return SyntheticRun()


@pytest.fixture(scope="session")
def cpu_run() -> SyntheticRun:
    """Six samples on a CPU, nothing of a GPU measured."""
    return SyntheticRun(
        num_samples=6, gpu=False, hits={"gist": 6, "full": 3, "swapped": 0, "none": 0}
    )


@pytest.fixture
def read(tmp_path: Path) -> Callable[[SyntheticRun | LadderRun], Evidence]:
    """Write a synthetic run and read it back, as the report does."""

    def through_files(run: SyntheticRun | LadderRun) -> Evidence:
        return load_evidence(run.write(tmp_path / "run"))

    return through_files
