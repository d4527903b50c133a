"""Training speed is that of `gistbench train`'s own steps, beside what their arithmetic takes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gistbench.core.footprint import Architecture
from gistbench.core.operations import TrainingStep, training_operations
from gistbench.records import NotMeasured
from gistbench.speed.records import SpeedRecord
from gistbench.speed.run import speed_of_training
from gistbench.speed.training import _at_full_length, managed_bytes
from gistbench.storage import read_json
from gistbench.training.curriculum import Curriculum
from gistbench.training.trainer import GistTrainer
from tests.fixtures.tiny_base import NUM_GISTS, tiny_config

CONTEXT = 160


def measure(base: Path, folder: Path, **changes: Any) -> SpeedRecord:
    config = tiny_config(base, weights="random", **changes)
    options: dict[str, Any] = {"device": "cpu", "command": "gistbench speed train"}
    record = speed_of_training(config, folder / "s.json", steps=3, warm_up_steps=2, **options)
    assert record is not None
    assert read_json(folder / "s.json", SpeedRecord) == record
    return record


def test_steps_are_timed_at_the_full_length_and_their_operations_counted(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def num_tokens(batch: Any) -> int:
        return int(batch["prefix_ids"].shape[1] + batch["suffix_ids"].shape[1])

    seen: list[tuple[int, int]] = []
    sound = GistTrainer.compute_loss

    def watched(self: Any, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        seen.append((len(inputs["prefix_ids"]), num_tokens(inputs)))
        return sound(self, model, inputs, *args, **options)

    monkeypatch.setattr(GistTrainer, "compute_loss", watched)
    record = measure(
        tiny_base,
        tmp_path,
        data={"curriculum": [32, 64], "length_jitter": 0.3, "replay": 0.5},
        training={"gradient_accumulation_steps": 2},
    )
    speed = record.training
    assert speed is not None
    tokens = CONTEXT + NUM_GISTS + 22
    assert seen == [(2, tokens)] * 2 * 5
    assert len(speed.step_seconds) == 3
    assert speed.tokens_per_step == 4 * tokens
    assert speed.tokens_per_second == pytest.approx(4 * tokens / speed.seconds_per_step)
    lora = 4 * (64 + 64) * 2 * 2 + 4 * (64 + 32) * 2 * 2
    assert speed.trainable_parameters == lora + NUM_GISTS * 64
    sizes = Architecture.of(
        {
            "vocab_size": 1000 + NUM_GISTS,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        }
    )
    step = TrainingStep(
        4, CONTEXT + NUM_GISTS, NUM_GISTS, 22, 8, num_turns=4, adapter_parameters=lora
    )
    assert speed.operations == training_operations(sizes, step, recompute=False)
    assert speed.operations_with_recompute == training_operations(sizes, step, recompute=True)
    floor = speed.operations / record.rates.matrix_operations_per_second
    assert speed.share_of_floor == pytest.approx(floor / speed.seconds_per_step)
    assert isinstance(speed.torch_allocated_peak_bytes, NotMeasured)
    assert speed.managed_bytes == 0
    assert speed.checkpoint_bytes > 2 * speed.trainable_parameters
    assert "random weights" in record.accuracy.not_measured


def test_a_loss_on_ordinary_text_is_timed_and_has_no_floor(tiny_base: Path, tmp_path: Path) -> None:
    speed = measure(tiny_base, tmp_path, training={"keep_weight": 1.0}).training
    assert speed is not None
    assert speed.seconds_per_step > 0
    for quantity in (speed.operations, speed.floor_seconds, speed.share_of_floor):
        assert isinstance(quantity, NotMeasured)
        assert "keep_weight" in quantity.not_measured


def test_tasks_that_are_trained_first_are_not_all_that_is_timed(tiny_base: Path) -> None:
    tasks = ("niah_passkey", "niah_absent")
    config = tiny_config(tiny_base, data={"tasks": tasks, "first_tasks": tasks[:1]})
    assert Curriculum(config).plan(0).turns == (0,)
    timed = Curriculum(_at_full_length(config, 5))
    assert (timed.num_stages, timed.plan(0).turns) == (1, (0, 1))


def test_matrices_trained_whole_are_counted(tiny_base: Path, tmp_path: Path) -> None:
    least, whole = (
        measure(tiny_base, tmp_path / str(len(names)), adapter={"modules_to_save": names}).training
        for names in ([], ["embed_tokens", "lm_head"])
    )
    assert least is not None and whole is not None
    rows = 1000 + NUM_GISTS
    assert whole.operations - least.operations == 2 * 64 * rows * 2 * 8
    assert whole.trainable_parameters > 2 * 64 * rows


def test_nothing_is_left_of_the_training_but_the_record(tiny_base: Path, tmp_path: Path) -> None:
    measure(tiny_base, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]


def test_managed_memory_is_what_paged_optimisers_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    paged = [torch.zeros(100, dtype=torch.uint8), torch.zeros(10)]
    manager = SimpleNamespace(get_instance=lambda: SimpleNamespace(paged_tensors=paged))
    functional = SimpleNamespace(GlobalPageManager=manager)
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", functional)
    assert managed_bytes() == 140
    monkeypatch.delitem(sys.modules, "bitsandbytes.functional")
    assert managed_bytes() == 0
