"""Random weights make the model that saved ones would; nothing is ever claimed of its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from gistbench.config import AdapterConfig, TrainConfig
from gistbench.core.footprint import Architecture
from gistbench.errors import PrerequisiteError, UsageError
from gistbench.models.adapter import add_adapter
from gistbench.models.attention import ATTENTION
from gistbench.models.catalog import find_model
from gistbench.models.checkpoint import load_checkpoint, save_checkpoint
from gistbench.models.loading import load_base
from gistbench.models.random_weights import random_base, random_ids

OPTIONS: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


@pytest.fixture
def folder(tiny: Any, tmp_path: Path) -> Path:
    """A configuration of each architecture in turn, and no weights."""
    tiny.config.save_pretrained(tmp_path / "architecture")
    return tmp_path / "architecture"


@pytest.fixture
def llama(make_tiny: Any, tmp_path: Path) -> Path:
    make_tiny("llama").config.save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


@torch.no_grad()
def test_a_random_model_is_what_transformers_loads_from_the_same_weights(
    folder: Path, tmp_path: Path, passes: Any, make_batch: Any
) -> None:
    """Nothing stays empty: rotary phases, scales and norms are those of a loaded model."""
    model = random_base(str(folder), **OPTIONS).model
    model.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", attn_implementation=ATTENTION)
    batch = make_batch()
    logits = passes.two(model, batch)
    assert torch.equal(logits, passes.two(loaded.eval(), batch))
    assert logits.std() > 0
    tied = model.config.tie_word_embeddings
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied


def test_weights_depend_on_the_seed_alone(llama: Path) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one, same, other = (random_base(str(llama), seed=seed, **OPTIONS) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    weights = [base.model.model.layers[1].mlp.up_proj.weight for base in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_catalogued_architecture_needs_no_file_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gistbench.models.random_weights.find_model", pytest.fail)
    base = random_base("smollm2-135m", dtype=torch.bfloat16, device="cpu", max_positions=20_000)
    assert base.max_positions == 20_000
    assert base.model.num_parameters() == 134_515_008
    assert base.model.dtype == torch.bfloat16
    assert base.num_text_tokens == 49_152


@torch.no_grad()
def test_blocks_are_quantised_as_transformers_quantises_them_and_nothing_else(
    make_base_folder: Any, passes: Any, make_batch: Any
) -> None:
    folder = make_base_folder("llama", hidden_size=64, intermediate_size=128)
    random = random_base(str(folder), quantization="nf4", **OPTIONS).model
    loaded = load_base(
        find_model(str(folder)), dtype=torch.float32, device="cpu", quantization="nf4"
    ).model
    kinds = [[(name, type(module)) for name, module in m.named_modules()] for m in (random, loaded)]
    assert kinds[0] == kinds[1]
    sizes = [{n: (p.dtype, p.shape) for n, p in m.named_parameters()} for m in (random, loaded)]
    assert sizes[0] == sizes[1]
    assert random.is_quantized and random.is_loaded_in_4bit
    state = random.model.layers[0].mlp.up_proj.weight.quant_state
    assert state.nested and state.quant_type == "nf4"
    batch = make_batch()
    assert passes.two(random, batch).isfinite().all()
    # As many bytes as predicted, of the linear layers.
    sizes_of = Architecture.of(random.config.to_dict())
    packed = sum(p.numel() for p in random.parameters() if p.dtype == torch.uint8)
    assert packed == sizes_of.linear_parameters // 2


def test_a_quantised_random_model_takes_a_lora(make_base_folder: Any) -> None:
    folder = make_base_folder("llama", hidden_size=64, intermediate_size=128)
    base = random_base(str(folder), quantization="nf4", **OPTIONS)
    config = TrainConfig(adapter=AdapterConfig(num_gists=2, lora_rank=4))
    wrapped = add_adapter(base.model, config, (1, 2))
    names = [type(module).__module__ for module in wrapped.modules()]
    assert "peft.tuners.lora.bnb" in names


def test_text_is_refused_where_there_is_no_tokenizer(llama: Path) -> None:
    tokenizer = random_base(str(llama), **OPTIONS).tokenizer
    for ask in (lambda: tokenizer("text"), lambda: tokenizer.decode([1])):
        with pytest.raises(UsageError, match=r"no tokenizer.*leave --weights random out"):
            ask()


def test_what_cannot_be_built_is_refused_by_name(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="max-positions 0"):
        random_base(str(llama), max_positions=0, **OPTIONS)
    with pytest.raises(UsageError, match=r"unknown base model 'smolm2-135m'.*smollm2-135m"):
        random_base("smolm2-135m", **OPTIONS)
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt" / "config.json").write_text('{"model_type": "opt"}')
    with pytest.raises(UsageError, match="architecture 'opt' is not supported"):
        random_base(str(tmp_path / "opt"), **OPTIONS)
    (tmp_path / "opt" / "config.json").write_text("{")
    with pytest.raises(PrerequisiteError, match="cannot be read as a model configuration"):
        random_base(str(tmp_path / "opt"), **OPTIONS)


def test_a_checkpoint_on_random_weights_goes_on_no_other_model(
    make_base_folder: Any, load_folder: Any, tmp_path: Path
) -> None:
    folder = make_base_folder("llama")
    base = random_base(str(folder), **OPTIONS)
    config = TrainConfig(weights="random", adapter=AdapterConfig(num_gists=2, lora_rank=4))
    model = add_adapter(base.model, config, ())
    save_checkpoint(
        *(model, base, config, (), tmp_path / "c"),
        training_summary="",
        max_trained_context_tokens=9,
        tasks=(),
    )
    with pytest.raises(UsageError, match=r"random weights, seed 0, .* of no use on others"):
        load_checkpoint(
            load_folder(folder), tmp_path / "c", objective="gist", allow_other_precision=True
        )


def test_drawn_ids_are_within_the_vocabulary_and_the_same_for_a_seed() -> None:
    ids = random_ids(500, 7, seed=4)
    assert set(ids) == set(range(7))
    assert ids == random_ids(500, 7, seed=4) != random_ids(500, 7, seed=5)
