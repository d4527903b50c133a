"""Claims about trainings that were killed and went on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from gistbench.config import TrainConfig
from gistbench.errors import UsageError
from gistbench.models.manifest import read_manifest
from gistbench.training import focus
from gistbench.training.run import train
from gistbench.training.states import latest_checkpoint
from tests.fixtures.tiny_base import tiny_config

ROOT = Path(__file__).resolve().parents[2]

# Dies like a machine that loses power: after step 5, with a state of step 4 on disk.
KILLED = """
import os, signal, sys
from pathlib import Path
import gistbench.training.trainer as trainer
from gistbench.config import TrainConfig
from gistbench.training.run import train

original = trainer.GistTrainer.end_of_step

def end_of_step(self):
    advanced = original(self)
    if self.state.global_step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return advanced

trainer.GistTrainer.end_of_step = end_of_step
config = TrainConfig.model_validate_json(Path(sys.argv[1]).read_text())
train(config, Path(sys.argv[2]), device="cpu")
"""

# What is compared: everything a step logs but how long it took, and "epoch",
# which means nothing for data without an end (Trainer counts it anew after a resume).
TIMES = ("seconds", "seconds_per_step", "epoch")


def metrics(folder: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").open(encoding="utf-8")]
    return [{key: v for key, v in entry.items() if key not in TIMES} for entry in entries]


def eventful(base: Path) -> TrainConfig:
    """Dropout, replay, jitter, accumulation and a curriculum: all that a resume could disturb."""
    return tiny_config(
        base,
        adapter={"lora_dropout": 0.2},
        data={"curriculum": (144,), "replay": 0.3, "length_jitter": 0.05, "num_workers": 0},
        training={
            "max_steps": 8,
            "gradient_accumulation_steps": 2,
            "learning_rate": 1e-2,
            "save_steps": 4,
        },
    )


def assert_same_training(one: Path, other: Path) -> None:
    assert metrics(one) == metrics(other)
    mine, theirs = (load_file(folder / "adapter_model.safetensors") for folder in (one, other))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_killed_training_goes_on_to_bit_equal_losses(tiny_base: Path, tmp_path: Path) -> None:
    config = eventful(tiny_base)
    order, killed, unbroken = (tmp_path / name for name in ("order.json", "killed", "unbroken"))
    order.write_text(config.model_dump_json(), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(order), str(killed)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert not (killed / "gist.json").exists(), "an unfinished training is no checkpoint"
    assert latest_checkpoint(killed) == killed / "checkpoint-4"
    train(config, killed, device="cpu")
    train(config, unbroken, device="cpu")
    assert len(metrics(unbroken)) == 8
    assert_same_training(killed, unbroken)
    log = (killed / "training.md").read_text(encoding="utf-8")
    assert "Resumed at step 4." in log
    assert log.count("# Training log") == 1


class StoppedError(Exception):
    """Raised by a training that is to be resumed."""


class StopAfterSaving(TrainerCallback):
    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        raise StoppedError


def test_a_mix_with_focus_and_lora_plus_goes_on_to_bit_equal_losses(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(focus, "WINDOW_STEPS", 2)
    config = tiny_config(
        tiny_base,
        data={
            "tasks": ("niah_passkey", "niah_two_questions"),
            "first_tasks": ("niah_two_questions",),
            "curriculum": (144,),
            "max_stage_steps": 3,
            "focus": 0.5,
            "questions_per_context": 2,
        },
        training={"max_steps": 8, "save_steps": 5, "lora_plus_ratio": 8.0},
    )
    parts, unbroken = tmp_path / "parts", tmp_path / "unbroken"
    with pytest.raises(StoppedError):
        train(config, parts, device="cpu", callbacks=[StopAfterSaving()])
    saved = json.loads((parts / "checkpoint-5" / "curriculum.json").read_text(encoding="utf-8"))
    assert saved["curriculum"]["stage"] == 1, "all tasks, at the first length"
    assert "stage 2 of 3: all tasks, contexts of 144 tokens" in (parts / "training.md").read_text()
    assert saved["curriculum"]["focus"]["slots"], "rows have been divided"
    train(config, parts, device="cpu")
    train(config, unbroken, device="cpu")
    assert_same_training(parts, unbroken)
    assert read_manifest(parts).trained_on == config.data.tasks


def test_a_checkpoint_names_the_tasks_that_it_was_trained_on_and_not_those_to_come(
    tiny_base: Path, tmp_path: Path
) -> None:
    config = tiny_config(
        tiny_base,
        data={"tasks": ("niah_passkey", "niah_absent"), "first_tasks": ("niah_absent",)},
        training={"max_steps": 2},
    )
    assert read_manifest(train(config, tmp_path, device="cpu")).trained_on == ("niah_absent",)


@pytest.fixture(scope="module")
def stopped(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of 4 steps with states of steps 2 and 4, as if it had been killed at its end."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    train(tiny_config(tiny_base), folder, device="cpu")
    for path in folder.iterdir():
        if path.name in ("gist.json", "adapter_model.safetensors", "adapter_config.json"):
            path.unlink()
    return folder


@pytest.fixture
def killed(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def test_a_half_written_state_is_skipped(
    killed: Path, tiny_base: Path, tiny_checkpoint: Path
) -> None:
    (killed / "checkpoint-4" / "curriculum.json").unlink()
    assert latest_checkpoint(killed) == killed / "checkpoint-2"
    train(tiny_config(tiny_base), killed, device="cpu")
    assert_same_training(killed, tiny_checkpoint)


def test_a_folder_without_any_state_starts_anew(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    (tmp_path / "checkpoint-3").mkdir()
    assert latest_checkpoint(tmp_path) is None


def test_the_newest_state_is_the_one_of_the_highest_step(tmp_path: Path) -> None:
    for step in (900, 1000, 200):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "curriculum.json").write_text("{}", encoding="utf-8")
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-1000"


def test_a_metrics_line_that_was_cut_short_does_not_stop_a_resume(
    killed: Path, tiny_base: Path, tiny_checkpoint: Path
) -> None:
    shutil.rmtree(killed / "checkpoint-4")
    with (killed / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 5, "secon')
    train(tiny_config(tiny_base), killed, device="cpu")
    assert_same_training(killed, tiny_checkpoint)


def test_a_training_with_other_settings_does_not_go_on_in_a_used_folder(
    killed: Path, tiny_base: Path
) -> None:
    other = tiny_config(tiny_base, adapter={"lora_alpha": 16}, training={"learning_rate": 1e-2})
    with pytest.raises(UsageError, match=r"lora_alpha|learning_rate|other settings"):
        train(other, killed, device="cpu")


def test_finishing_again_changes_nothing(tiny_base: Path, tmp_path: Path) -> None:
    train(tiny_config(tiny_base), tmp_path, device="cpu")
    before = metrics(tmp_path), load_file(tmp_path / "adapter_model.safetensors")
    train(tiny_config(tiny_base), tmp_path, device="cpu")
    after = metrics(tmp_path), load_file(tmp_path / "adapter_model.safetensors")
    assert before[0] == after[0]
    assert all(torch.equal(tensor, after[1][name]) for name, tensor in before[1].items())


def test_what_lies_beside_the_adapter_is_not_resumed_from(
    killed: Path, tiny_base: Path, tiny_checkpoint: Path
) -> None:
    """Trainer takes folders inside a checkpoint for further adapters; see `GistTrainer`."""
    shutil.rmtree(killed / "checkpoint-4")
    state = killed / "checkpoint-2"
    decoy = state / "default"
    decoy.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copy(state / name, decoy)
    weights = load_file(decoy / "adapter_model.safetensors")
    save_file(
        {name: torch.zeros_like(tensor) for name, tensor in weights.items()},
        decoy / "adapter_model.safetensors",
    )
    train(tiny_config(tiny_base), killed, device="cpu")
    assert_same_training(killed, tiny_checkpoint)


def test_the_state_of_another_adapter_is_refused(killed: Path, tiny_base: Path) -> None:
    shutil.rmtree(killed / "checkpoint-4")
    state = killed / "checkpoint-2" / "adapter_model.safetensors"
    weights = load_file(state)
    weights.pop(sorted(weights)[0])
    save_file(weights, state)
    with pytest.raises(UsageError, match="does not hold this training's adapter"):
        train(tiny_config(tiny_base), killed, device="cpu")


@pytest.mark.parametrize("damage", ["cut short", "missing"])
def test_a_damaged_state_is_named(killed: Path, tiny_base: Path, damage: str) -> None:
    shutil.rmtree(killed / "checkpoint-4")
    weights = killed / "checkpoint-2" / "adapter_model.safetensors"
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UsageError, match=r"checkpoint-2.*(cannot be read|does not hold)"):
        train(tiny_config(tiny_base), killed, device="cpu")
