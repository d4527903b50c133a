"""Real runs of the model that answers passkeys, whole and with faults; and synthetic ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import gistbench.bench.run as bench_run
from gistbench.config import RunConfig
from gistbench.gate.accepting import accept
from tests.fixtures import passkey_model
from tests.fixtures.in_process import InProcess, SilentDisplay
from tests.fixtures.tiny_base import shared

NUM_SAMPLES = 100
ROOT = Path(__file__).resolve().parents[2]


def run_passkeys(folder: Path) -> Path:
    """What `make self-gate` runs, on half the samples, with its workers in this process."""
    config = RunConfig(
        models=("gist", "full"),
        checkpoint=str(ROOT / passkey_model.CHECKPOINT),
        base=str(ROOT / passkey_model.BASE),
        context_tokens=passkey_model.CONTEXT_TOKENS,
        samples=NUM_SAMPLES,
        batch_size=50,
        device="cpu",
        dtype="float32",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_run, "run_worker", InProcess())
        bench_run.run(config, folder, display=SilentDisplay(), command="gistbench run")
    return folder


@pytest.fixture(scope="session")
def sound_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without any fault."""
    return shared(tmp_path_factory, "sound-run", run_passkeys)


@pytest.fixture(scope="session")
def sound_baseline(tmp_path_factory: pytest.TempPathFactory, sound_run: Path) -> Path:
    """That run, accepted."""

    def build(folder: Path) -> None:
        accept(sound_run, name="sound", reason="nothing is broken", folder=folder)

    return shared(tmp_path_factory, "sound-baseline", build) / "sound.json"


@pytest.fixture
def again(tmp_path: Path) -> Callable[[], Path]:
    """Repeats the run, with whatever has been broken since."""
    return lambda: run_passkeys(tmp_path / "run")
