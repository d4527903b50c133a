"""Training that starts from a trained checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from gistbench.errors import UsageError
from gistbench.models.manifest import ADAPTER_FILE
from gistbench.training.run import train
from tests.fixtures.tiny_base import tiny_config


def test_training_starts_at_the_weights_of_the_checkpoint(
    tiny_base: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    config = tiny_config(
        tiny_base,
        adapter={"start_from": str(tiny_checkpoint)},
        training={"max_steps": 1, "learning_rate": 1e-12},
    )
    train(config, tmp_path / "next", device="cpu")
    before = load_file(tiny_checkpoint / ADAPTER_FILE)
    after = load_file(tmp_path / "next" / ADAPTER_FILE)
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)
    anew = tiny_config(tiny_base, training={"max_steps": 1, "learning_rate": 1e-12})
    train(anew, tmp_path / "anew", device="cpu")
    fresh = load_file(tmp_path / "anew" / ADAPTER_FILE)
    assert any(not before[name].equal(fresh[name]) for name in before)


def test_a_checkpoint_of_another_shape_is_refused(
    tiny_base: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_base, adapter={"start_from": str(tiny_checkpoint), "lora_rank": 2})
    with pytest.raises(UsageError, match=r"another shape .* adapter fields"):
        train(config, tmp_path / "next", device="cpu")
    assert not (tmp_path / "next").exists()
