"""Claims about one training run, on a tiny model that trains in a second."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from gistbench.config import TrainConfig
from gistbench.config_files import load_preset, merge, validate
from gistbench.errors import UsageError
from gistbench.models.architectures import settled
from gistbench.models.catalog import find_model
from gistbench.models.checkpoint import load_checkpoint
from gistbench.models.loading import load_base
from gistbench.models.manifest import find_checkpoint, read_manifest
from gistbench.training.checks import CONFIG_FILE, is_finished
from gistbench.training.kernels import with_kernels
from gistbench.training.run import train
from tests.fixtures.tiny_base import CONTEXT_TOKENS, NUM_GISTS, tiny_config, write_tiny_base


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def losses(config: TrainConfig, folder: Path) -> list[float]:
    train(config, folder, device="cpu")
    return [entry["loss"] for entry in metrics(folder)]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def on_a_cpu(config: TrainConfig) -> TrainConfig:
    """A configuration with what its defaults mean for a llama on a CPU."""
    return with_kernels(settled(config, "llama"), SimpleNamespace(model_type="llama"), "cpu")


def test_logits_at_the_answer_alone_give_the_same_training(tiny_base: Path, tmp_path: Path) -> None:
    answer_only, everywhere = (
        losses(tiny_config(tiny_base, training={"answer_logits_only": only}), tmp_path / str(only))
        for only in (True, False)
    )
    assert answer_only == pytest.approx(everywhere, rel=1e-5)


def test_accumulated_micro_batches_train_like_one_large_batch(
    tiny_base: Path, tmp_path: Path
) -> None:
    """A fixed set of eight, so that both see the same eight samples in every step."""
    runs = []
    for size, accumulation in ((2, 4), (8, 1)):
        config = tiny_config(
            tiny_base,
            data={"num_samples": 8},
            training={
                "per_device_train_batch_size": size,
                "gradient_accumulation_steps": accumulation,
                "learning_rate": 1e-2,
                "max_steps": 3,
                "save_steps": 3,
            },
        )
        runs.append((losses(config, tmp_path / str(size)), metrics(tmp_path / str(size))))
    (small, small_log), (large, large_log) = runs
    assert small == pytest.approx(large, rel=1e-4)
    for one, other in zip(small_log, large_log, strict=True):
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
        assert one["supervised_tokens"] == other["supervised_tokens"]
        assert one["context_tokens_seen"] == other["context_tokens_seen"]


def test_training_learns(tiny_base: Path, tmp_path: Path) -> None:
    """Two samples by heart: the loss falls to nearly nothing and answers become exact."""
    config = tiny_config(
        tiny_base,
        adapter={"lora_rank": 16, "lora_alpha": 32},
        data={"num_samples": 2},
        training={"max_steps": 150, "learning_rate": 2e-2, "save_steps": 150, "logging_steps": 10},
    )
    train(config, tmp_path, device="cpu")
    log = metrics(tmp_path)
    assert log[0]["loss"] > 5
    assert log[-1]["loss"] < 0.2 * log[0]["loss"]


def test_nothing_but_lora_and_the_gist_rows_is_trained(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gistbench.training.run as training_run

    kept: dict[str, Any] = {}
    original = training_run.add_adapter

    def add_adapter(model: Any, config: Any, gist_ids: Any) -> Any:
        kept["before"] = {name: w.detach().clone() for name, w in model.named_parameters()}
        kept["model"] = original(model, config, gist_ids)
        return kept["model"]

    monkeypatch.setattr(training_run, "add_adapter", add_adapter)
    train(tiny_config(tiny_base, training={"learning_rate": 1e-2}), tmp_path, device="cpu")
    model = kept["model"]
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    assert all("lora_" in name or "token_adapter" in name for name in trained), trained
    after = {
        name.replace("token_adapter.", "").replace("base_layer.", ""): weight
        for name, weight in model.base_model.model.named_parameters()
    }
    for name, before in kept["before"].items():
        assert torch.equal(after[name], before), name
    saved = adapter(tmp_path)
    assert all("lora_" in name or "trainable_tokens" in name for name in saved), sorted(saved)
    rows = [tensor for name, tensor in saved.items() if "trainable_tokens" in name]
    assert [tuple(tensor.shape) for tensor in rows] == [(NUM_GISTS, 64)]
    assert all(tensor.dtype == torch.bfloat16 for tensor in saved.values())


def test_the_gist_rows_are_trained(tiny_base: Path, tmp_path: Path) -> None:
    rows = []
    for rate in (1e-12, 1e-2):
        folder = tmp_path / str(rate)
        train(tiny_config(tiny_base, training={"learning_rate": rate}), folder, device="cpu")
        rows.append(next(t for n, t in adapter(folder).items() if "trainable_tokens" in n))
    assert not torch.equal(*rows)


def test_the_log_tells_a_person_what_happened(tiny_checkpoint: Path, tiny_base: Path) -> None:
    text = (tiny_checkpoint / "training.md").read_text(encoding="utf-8")
    written = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert TrainConfig.model_validate(written) == on_a_cpu(tiny_config(tiny_base))
    assert "trainable parameters: 3,840 of 194,112 (1.98 %)" in text
    assert f"gist tokens: {NUM_GISTS} (rows 1000 to 1003)" in text
    assert "supervised tokens per sample: 7" in text
    for part in ("| 1 | 25 % | 160 |", "saved checkpoint-2", "saved checkpoint-4", "time left"):
        assert part in text
    assert "Finished: 4 steps, 1,280 context tokens, 56 supervised tokens" in text


def test_time_left_comes_from_the_measured_rate(tiny_checkpoint: Path) -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (tiny_checkpoint / "training.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| 2 ")
    ]
    rate, left = rows[0][5], rows[0][6]
    number, unit = left.split()
    seconds = float(number) * {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit]
    assert seconds == pytest.approx(2 * float(rate), rel=0.02)


def test_training_may_end_before_its_schedule(tiny_base: Path, tmp_path: Path) -> None:
    def rates(name: str, **training: int) -> list[float]:
        train(tiny_config(tiny_base, training=training), tmp_path / name, device="cpu")
        lines = (tmp_path / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["learning_rate"] for line in lines]

    whole = rates("whole", max_steps=4)
    assert rates("cut", max_steps=2, schedule_steps=4) == whole[:2]
    assert rates("short", max_steps=2) != whole[:2]


def test_metrics_have_a_line_for_every_logged_step(tiny_checkpoint: Path) -> None:
    log = metrics(tiny_checkpoint)
    assert [entry["step"] for entry in log] == [1, 2, 3, 4]
    assert [entry["context_tokens_seen"] for entry in log] == [
        2 * CONTEXT_TOKENS * step for step in (1, 2, 3, 4)
    ]
    assert [entry["supervised_tokens"] for entry in log] == [14, 28, 42, 56]
    assert all(a["seconds"] <= b["seconds"] for a, b in pairwise(log))
    assert all(0 <= entry["train_exact_match"] <= 1 for entry in log)


def test_every_saved_step_holds_a_gist_checkpoint_that_loads(
    tiny_checkpoint: Path, tiny_base: Path
) -> None:
    for folder in (
        tiny_checkpoint,
        tiny_checkpoint / "checkpoint-2" / "gist",
        tiny_checkpoint / "checkpoint-4" / "gist",
    ):
        base = load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu")
        loaded = load_checkpoint(base, find_checkpoint(str(folder)))
        assert loaded.gist_ids == (1000, 1001, 1002, 1003)
        assert loaded.manifest.max_trained_context_tokens == CONTEXT_TOKENS
        assert loaded.manifest.trained_on == ("niah_passkey",)
    assert adapter(tiny_checkpoint).keys() == adapter(folder).keys()
    for name, tensor in adapter(tiny_checkpoint).items():
        assert torch.equal(tensor, adapter(folder)[name])


def test_a_finished_checkpoint_says_how_it_was_made(tiny_checkpoint: Path, tiny_base: Path) -> None:
    manifest = read_manifest(tiny_checkpoint)
    trained = TrainConfig.model_validate(manifest.training_config)
    assert trained == on_a_cpu(tiny_config(tiny_base))
    assert trained.adapter.target_modules == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert manifest.training_summary.startswith("4 steps, 1,280 context tokens")
    assert manifest.trained_parameters == 3840
    assert set(manifest.versions) == {"torch", "transformers", "peft"}


@pytest.mark.parametrize(
    ("model_type", "fields", "modules"),
    [
        (
            "gemma3_text",
            {"head_dim": 16, "sliding_window": 32, "sliding_window_pattern": 2},
            ("q_proj", "k_proj", "v_proj", "o_proj"),
        ),
        ("gpt_neox", {"num_key_value_heads": None}, ("query_key_value", "dense")),
    ],
)
def test_the_recipe_fits_other_architectures_and_names_what_it_trained(
    tmp_path: Path, model_type: str, fields: dict[str, Any], modules: tuple[str, ...]
) -> None:
    folder = write_tiny_base(tmp_path / "base", model_type=model_type, **fields)
    config = tiny_config(folder, training={"max_steps": 2, "gradient_checkpointing": True})
    assert config.adapter.target_modules is None
    output = train(config, tmp_path / "run", device="cpu")
    saved = json.loads((output / CONFIG_FILE).read_text(encoding="utf-8"))
    assert tuple(saved["adapter"]["target_modules"]) == modules
    base = load_base(find_model(str(folder)), dtype=torch.float32, device="cpu")
    manifest = load_checkpoint(base, output).manifest
    assert tuple(manifest.training_config["adapter"]["target_modules"]) == modules
    assert sum("lora_A" in name for name in adapter(output)) == 2 * len(modules)


def test_a_default_left_alone_goes_on_with_the_modules_that_were_saved(
    tiny_base: Path, tmp_path: Path
) -> None:
    """Saved configurations name modules, also those of versions whose default named them."""
    saved = settled(tiny_config(tiny_base), "llama")
    fields = saved.model_dump(mode="json")
    (tmp_path / CONFIG_FILE).write_text(json.dumps(fields), encoding="utf-8")
    assert not is_finished(tiny_config(tiny_base), tmp_path)
    assert not is_finished(saved, tmp_path)
    fields["adapter"]["target_modules"] = ["q_proj"]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(UsageError, match=r"adapter.target_modules \['q_proj'\], now None"):
        is_finished(tiny_config(tiny_base), tmp_path)


def test_lengths_rise_with_accuracy_and_the_checkpoint_says_how_far(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything counts as exact here, so every stage takes its fewest steps."""
    from gistbench.training.curriculum import MIN_STEPS, Curriculum

    original = Curriculum.observe
    monkeypatch.setattr(
        Curriculum,
        "observe",
        lambda self, step: original(
            self, [(length, [(seen, seen) for _, seen in tasks]) for length, tasks in step]
        ),
    )
    config = tiny_config(
        tiny_base,
        data={"curriculum": (140, 150)},
        training={"max_steps": 2 * MIN_STEPS + 1, "save_steps": 6},
    )
    train(config, tmp_path, device="cpu")
    seen = [entry["context_tokens"] for entry in metrics(tmp_path)]
    assert seen == [140.0] * MIN_STEPS + [150.0] * MIN_STEPS + [160.0]
    kept = read_manifest(tmp_path / "checkpoint-6" / "gist")
    assert kept.max_trained_context_tokens == 150
    assert read_manifest(tmp_path).max_trained_context_tokens == 160


def test_the_seed_recipe_runs_the_same_code(tiny_base: Path, tmp_path: Path) -> None:
    """Everything of the preset but its model, its 4-bit weights and 8-bit optimiser, its length."""
    fields = merge(
        load_preset("gist-global-10"),
        {
            "base": {"name": str(tiny_base), "quantization": "none"},
            "data": {"context_tokens": CONTEXT_TOKENS, "num_workers": 0},
            "training": {"optim": "adamw_torch", "max_steps": 2, "save_steps": 1},
        },
    )
    config = validate(TrainConfig, fields, "test")
    assert config.training.gradient_checkpointing
    assert config.training.gradient_accumulation_steps == 8
    train(config, tmp_path, device="cpu")
    saved = adapter(tmp_path)
    whole = {name: tuple(tensor.shape) for name, tensor in saved.items() if "lora_" not in name}
    assert set(whole.values()) == {(1010, 64)}
    assert sorted(name.split(".")[-2] for name in whole) == ["embed_tokens", "lm_head"]
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-1",
        "checkpoint-2",
    ]
    base = load_base(find_model(str(tiny_base)), dtype=torch.bfloat16, device="cpu")
    loaded = load_checkpoint(base, tmp_path)
    assert len(loaded.gist_ids) == 10
    rows = loaded.model.get_input_embeddings().weight
    stored = next(tensor for name, tensor in saved.items() if "embed_tokens" in name)
    assert torch.equal(rows, stored)


def test_gradient_checkpointing_changes_no_loss(tiny_base: Path, tmp_path: Path) -> None:
    plain, saving = (
        losses(tiny_config(tiny_base, training={"gradient_checkpointing": on}), tmp_path / str(on))
        for on in (False, True)
    )
    assert saving == pytest.approx(plain, rel=1e-6)


def test_a_checkpoint_is_small_safetensors_without_the_embedding(tiny_checkpoint: Path) -> None:
    with safe_open(tiny_checkpoint / "adapter_model.safetensors", framework="pt") as file:
        assert not any("embed_tokens.weight" in name for name in file.keys())  # noqa: SIM118
    assert not list(tiny_checkpoint.glob("*.bin"))
    assert (tiny_checkpoint / "adapter_model.safetensors").stat().st_size < 20_000


def test_a_mixed_training_says_how_each_task_fares(tiny_base: Path, tmp_path: Path) -> None:
    tasks = ("niah_passkey", "niah_labelled_2", "niah_labelled_2")
    settings = {"max_steps": 2, "logging_steps": 1, "per_device_train_batch_size": 6}
    config = tiny_config(tiny_base, data={"tasks": tasks}, training=settings)
    train(config, tmp_path, device="cpu")
    for line in metrics(tmp_path):
        rates = {name: line[f"train_exact_match/{name}"] for name in set(tasks)}
        mean = (rates["niah_passkey"] + 2 * rates["niah_labelled_2"]) / 3
        assert line["train_exact_match"] == pytest.approx(mean)
    log = (tmp_path / "training.md").read_text(encoding="utf-8")
    last = " %, ".join(f"{name} {100 * rates[name]:.0f}" for name in dict.fromkeys(tasks))
    assert f"saved checkpoint-2: {last} %" in log, "beside each state, for who reads the log"
