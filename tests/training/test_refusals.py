"""Claims about trainings that cannot be: refused in one sentence, before anything is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gistbench.errors import GistbenchError, PrerequisiteError, UsageError
from gistbench.training.run import train
from tests.fixtures.tiny_base import tiny_config, write_tiny_base


def refusal(base: Path, output: Path, **changes: Any) -> str:
    with pytest.raises(GistbenchError) as caught:
        train(tiny_config(base, **changes), output, device="cpu")
    assert not output.exists(), "a refused training writes nothing"
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_a_length_limit_that_would_cut_gists_or_answers(tiny_base: Path, output: Path) -> None:
    text = refusal(tiny_base, output, data={"max_length": 170})
    assert "data.max_length 170 would cut off gists or answers" in text
    needed = int(re.search(r"--data.max-length (\d+)", text)[1])  # type: ignore[index]
    assert refusal(tiny_base, output, data={"max_length": needed - 1})
    allowed = tiny_config(
        tiny_base,
        data={"max_length": needed},
        training={"max_steps": 1, "per_device_train_batch_size": 1},
    )
    assert train(allowed, output, device="cpu") == output


def test_a_context_longer_than_the_positions(tiny_base: Path, output: Path) -> None:
    text = refusal(tiny_base, output, data={"context_tokens": 1024})
    assert "exceed the 1,024 positions" in text
    fitting = int(re.search(r"--data.context-tokens (\d+)", text)[1])  # type: ignore[index]
    assert "exceed" in refusal(tiny_base, output, data={"context_tokens": fitting + 1})
    config = tiny_config(
        tiny_base,
        data={"context_tokens": fitting},
        training={"max_steps": 1, "per_device_train_batch_size": 1},
    )
    assert train(config, output, device="cpu") == output


def test_a_context_too_short_for_the_needle(tiny_base: Path, output: Path) -> None:
    text = refusal(tiny_base, output, data={"context_tokens": 32, "length_jitter": 0.6})
    assert "data.context_tokens" in text
    assert "ask for at least" in text


def test_a_pointer_without_parts_to_point_at(tiny_base: Path, output: Path) -> None:
    weighted = {"pointer_weight": 0.5}
    assert "--adapter.gist-view segments" in refusal(tiny_base, output, training=weighted)
    settings = {"training": weighted, "adapter": {"gist_view": "segments"}}
    assert "objective full" in refusal(tiny_base, output, objective="full", **settings)


def test_a_pointer_for_layers_that_are_not_there(tiny_base: Path, output: Path) -> None:
    settings = {
        "training": {"pointer_weight": 0.5, "pointer_layers": (1, 7)},
        "adapter": {"gist_view": "segments"},
    }
    assert "training.pointer_layers 7 is no layer of a model" in refusal(
        tiny_base, output, **settings
    )
    assert "--training.pointer-weight 1" in refusal(
        tiny_base, output, training={"pointer_layers": (1,)}
    )


def test_several_questions_to_a_reading_that_is_not_kept(tiny_base: Path, output: Path) -> None:
    text = refusal(
        tiny_base,
        output,
        data={"questions_per_context": 3},
        training={"gradient_checkpointing": True},
    )
    assert "--training.no-gradient-checkpointing" in text


def test_a_first_stage_too_short_for_the_needle(tiny_base: Path, output: Path) -> None:
    """Refused at the start, not with a traceback from a worker process."""
    text = refusal(tiny_base, output, data={"curriculum": (10,)})
    assert "curriculum" in text


def test_an_unknown_optimiser(tiny_base: Path, output: Path) -> None:
    assert "adamw_torhc" in refusal(tiny_base, output, training={"optim": "adamw_torhc"})


def test_an_unknown_schedule(tiny_base: Path, output: Path) -> None:
    text = refusal(tiny_base, output, training={"lr_scheduler_type": "cosinus"})
    assert "cosinus" in text


def test_a_schedule_whose_options_do_not_fit(tiny_base: Path, output: Path) -> None:
    """`linear` with the default min_lr_rate of cosine_with_min_lr."""
    text = refusal(tiny_base, output, training={"lr_scheduler_type": "linear"})
    assert "lr_scheduler_kwargs" in text


def test_a_tracker_that_is_not_installed(tiny_base: Path, output: Path) -> None:
    with pytest.raises(GistbenchError, match="report_to"):
        train(tiny_config(tiny_base, training={"report_to": ("trackio",)}), output, device="cpu")


def test_an_eight_bit_optimiser_without_its_package(
    tiny_base: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gistbench.training.checks as training_checks

    monkeypatch.setattr(training_checks, "find_spec", lambda _: None)
    config = tiny_config(tiny_base, training={"optim": "paged_adamw_8bit"})
    with pytest.raises(PrerequisiteError, match="needs bitsandbytes"):
        train(config, output, device="cpu")
    assert not output.exists()


def test_an_unknown_task_with_the_nearest_name(tiny_base: Path, output: Path) -> None:
    text = refusal(tiny_base, output, data={"tasks": ("niah_paskey",)})
    assert "did you mean 'niah_passkey'?" in text


def test_an_unknown_base_model_with_the_nearest_name(output: Path) -> None:
    text = refusal(Path("smolm2-135m"), output)
    assert "did you mean 'smollm2-135m'?" in text


def test_modules_that_the_model_does_not_have(tiny_base: Path, output: Path) -> None:
    text = refusal(tiny_base, output, adapter={"target_modules": ("query_key_value",)})
    assert "query_key_value" in text
    assert "llama" in text


def test_whole_modules_that_the_model_does_not_have(tiny_base: Path, output: Path) -> None:
    text = refusal(tiny_base, output, adapter={"modules_to_save": ("embed_tokens", "head")})
    assert "modules_to_save" in text
    assert "head" in text


def test_an_architecture_that_is_not_supported(tiny_base: Path, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = write_tiny_base(tmp_path / "gpt2")
    GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=1000)).save_pretrained(
        folder
    )
    assert "gpt2" in refusal(folder, tmp_path / "run")


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    folder = write_tiny_base(tmp_path / "base")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert "tokenizer" in refusal(folder, tmp_path / "run")


def test_weights_that_are_damaged(tmp_path: Path) -> None:
    folder = write_tiny_base(tmp_path / "base")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "weights" in refusal(folder, tmp_path / "run")


def test_an_output_that_is_a_file(tiny_base: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"cannot write|is a file|not a directory"):
        train(tiny_config(tiny_base), path, device="cpu")
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_schedule_shorter_than_the_training(tiny_base: Path, output: Path) -> None:
    text = refusal(tiny_base, output, training={"schedule_steps": 3})
    assert "training.schedule_steps 3 ends before training.max_steps 4" in text


@pytest.mark.parametrize("weights", ["base", "own"])
def test_other_weights_answer_without_gists_or_with_what_is_computed_again(
    tiny_base: Path, output: Path, weights: str
) -> None:
    answering = {"answer_with": weights}
    text = refusal(tiny_base, output, adapter=answering, objective="full")
    assert f"adapter.answer_with {weights}" in text and "leave it out" in text
    again = {"gradient_checkpointing": True}
    text = refusal(tiny_base, output, adapter=answering, training=again)
    assert "pass --training.no-gradient-checkpointing" in text
