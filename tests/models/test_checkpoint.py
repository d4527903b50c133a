"""A checkpoint is what was trained and nothing else, and goes onto its own base model only."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.tuners.trainable_tokens import TrainableTokensLayer
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from gistbench.config import TrainConfig
from gistbench.config_files import load_preset, validate
from gistbench.errors import GistbenchError, PrerequisiteError, UsageError
from gistbench.models.adapter import (
    add_adapter,
    add_gist_rows,
    merge_gist_rows,
    num_trained_parameters,
)
from gistbench.models.attention import ATTENTION
from gistbench.models.catalog import architecture_of
from gistbench.models.checkpoint import load_checkpoint, save_checkpoint
from gistbench.models.manifest import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_FILE,
    MANIFEST_FILE,
    Manifest,
    find_checkpoint,
    read_manifest,
)

NUM_ROWS = 320
TOLERANCE = 2e-4
"""Of float32 logits: merging a LoRA rounds its product with the weight once more."""

ARCHITECTURES = [
    "gemma3-window-6",
    "gemma3-window-9-capped",
    "gpt-neox",
    "gpt-neox-serial",
    "llama",
    "llama-tied-3-layers",
    "mistral-window-7",
    "qwen2-window-9",
    "qwen3",
]
WHOLE_MATRICES = {"modules_to_save": ("embed_tokens", "lm_head")}
WHOLE_MATRICES_OF_NEOX = {"modules_to_save": ("embed_in", "lm_head")}


@dataclass(frozen=True)
class Saved:
    """A checkpoint on disk, its base on disk, and the model in memory that it was saved from."""

    folder: Path
    base_folder: Path
    model: Any
    manifest: Manifest


@pytest.fixture
def save(
    make_base_folder: Any, load_folder: Any, make_adapted: Any, tmp_path: Path
) -> Callable[..., Saved]:
    """Adapt a base model, round what is trained to bf16, save it."""

    def make(architecture: str = "llama", **adapter: Any) -> Saved:
        base_folder = make_base_folder(architecture)
        base = load_folder(base_folder)
        model, gist_ids, config = make_adapted(base.model, **adapter)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.copy_(weight.bfloat16())
        folder = tmp_path / "checkpoint"
        manifest = save_checkpoint(
            model,
            base,
            config,
            gist_ids,
            folder,
            training_summary="3 random steps",
            max_trained_context_tokens=40,
            tasks=("niah_passkey",),
        )
        return Saved(folder, base_folder, model, manifest)

    return make


def refusal(kind: type[GistbenchError], base: Any, folder: Path, **options: Any) -> str:
    """The one sentence in which a checkpoint is refused."""
    with pytest.raises(kind) as raised:
        load_checkpoint(base, folder, **options)
    message = str(raised.value)
    assert "\n" not in message
    assert ";" in message, "a refusal ends with the next step"
    return message


# -------------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loaded_checkpoint_is_the_model_that_was_saved(
    architecture: str, save: Any, load_folder: Any, passes: Any, make_batch: Any
) -> None:
    saved = save(architecture)
    loaded = load_checkpoint(load_folder(saved.base_folder), saved.folder)
    assert loaded.gist_ids == saved.manifest.gist_ids == (320, 321, 322)
    assert loaded.manifest == saved.manifest
    assert not isinstance(loaded.model, PeftModel), "merged into plain modules"
    assert not loaded.model.training
    batch = make_batch(gist_ids=loaded.gist_ids, vocabulary=NUM_ROWS)
    with torch.no_grad():
        expected = passes.one(saved.model, batch)[..., :NUM_ROWS]
        one = passes.one(loaded.model, batch)
        two = passes.two(loaded.model, batch)
        masked = passes.masked(loaded.model, batch)
    real = batch.real()
    assert (one[..., :NUM_ROWS] - expected)[real].abs().max() < TOLERANCE
    assert (one - two)[real].abs().max() < 1e-4
    assert (one - masked)[real].abs().max() < 1e-4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_plain_peft_loads_the_checkpoint(
    architecture: str, save: Any, load_folder: Any, passes: Any, make_batch: Any
) -> None:
    saved = save(architecture)
    plain = AutoModelForCausalLM.from_pretrained(saved.base_folder, dtype=torch.float32)
    plain.resize_token_embeddings(plain.config.vocab_size + saved.manifest.num_gists)
    plain = PeftModel.from_pretrained(plain, saved.folder).eval()
    loaded = load_checkpoint(load_folder(saved.base_folder), saved.folder)
    batch = make_batch(gist_ids=loaded.gist_ids, vocabulary=NUM_ROWS)
    with torch.no_grad():
        expected = passes.one(loaded.model, batch)[..., :NUM_ROWS]
        got = passes.masked(plain, batch)[..., :NUM_ROWS]
    assert (got - expected)[batch.real()].abs().max() < TOLERANCE


@pytest.mark.parametrize(
    ("architecture", "whole"),
    [
        ("gemma3-window-6", WHOLE_MATRICES),
        ("gemma3-window-9-capped", WHOLE_MATRICES),
        ("gpt-neox", WHOLE_MATRICES_OF_NEOX),
        ("gpt-neox-serial", WHOLE_MATRICES_OF_NEOX),
        ("llama", WHOLE_MATRICES),
        ("llama-tied-3-layers", WHOLE_MATRICES),
    ],
)
def test_whole_matrices_of_the_seed_recipe_survive_too(
    architecture: str,
    whole: dict[str, Any],
    save: Any,
    load_folder: Any,
    passes: Any,
    make_batch: Any,
) -> None:
    saved = save(architecture, **whole)
    loaded = load_checkpoint(load_folder(saved.base_folder), saved.folder)
    batch = make_batch(gist_ids=loaded.gist_ids, vocabulary=NUM_ROWS)
    with torch.no_grad():
        expected = passes.one(saved.model, batch)
        one, two = passes.one(loaded.model, batch), passes.two(loaded.model, batch)
    assert (one - expected)[batch.real()].abs().max() < TOLERANCE
    assert (one - two)[batch.real()].abs().max() < 1e-4


@pytest.mark.parametrize(
    ("architecture", "is_tied"),
    [("gemma3-window-6", True), ("gpt-neox", False), ("llama", False), ("qwen3", True)],
)
def test_merging_keeps_tied_embeddings_tied_and_untied_ones_apart(
    architecture: str, is_tied: bool, save: Any, load_folder: Any
) -> None:
    saved = save(architecture)
    model = load_checkpoint(load_folder(saved.base_folder), saved.folder).model
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == is_tied


@torch.no_grad()
def test_gist_rows_are_scaled_as_the_other_rows_are(tiny: Any, make_adapted: Any) -> None:
    """Gemma multiplies what it looks up; a gist row must be looked up the same way."""
    ids = torch.tensor([[60, 61, 62, 63]])
    scale = float(getattr(tiny.get_input_embeddings(), "embed_scale", 1.0))
    assert (scale == 1.0) == (tiny.config.model_type != "gemma3_text")
    model, gist_ids, _ = make_adapted(tiny)
    assert gist_ids == (61, 62, 63)
    adapted = model.get_input_embeddings()(ids)
    merged = model.merge_and_unload().get_input_embeddings()
    assert torch.allclose(merged(ids), adapted)
    assert torch.allclose(merged(ids), scale * merged.weight[ids])


@torch.no_grad()
def test_gist_rows_merged_beside_a_lora_change_no_logit(
    tiny: Any, passes: Any, make_batch: Any, make_adapted: Any
) -> None:
    """As for a quantised base, whose LoRA stays unmerged: tied embeddings stay tied."""
    model, gist_ids, _ = make_adapted(tiny)
    batch = make_batch(gist_ids=gist_ids)
    before = passes.one(model, batch)
    merge_gist_rows(model)
    assert torch.equal(passes.one(model, batch), before)
    layers = [item for item in model.modules() if isinstance(item, TrainableTokensLayer)]
    assert layers and all(layer.merged for layer in layers)
    if tiny.config.tie_word_embeddings:
        assert len(layers) == 2
        assert layers[0].base_layer.weight.data_ptr() == layers[1].base_layer.weight.data_ptr()


def test_the_default_adapts_every_linear_layer_of_the_attention_and_no_other(
    tiny: Any, make_adapted: Any
) -> None:
    linear = {
        name
        for name, module in tiny.named_modules()
        if isinstance(module, torch.nn.Linear) and (".self_attn." in name or ".attention." in name)
    }
    model, _, config = make_adapted(tiny)
    marker = ".lora_A.default.weight"
    adapted = {
        name.removeprefix("base_model.model.").removesuffix(marker)
        for name, _ in model.named_parameters()
        if name.endswith(marker)
    }
    assert adapted == linear
    assert set(config.adapter.target_modules) == {name.rsplit(".", 1)[-1] for name in linear}


@torch.no_grad()
def test_bfloat16_base_takes_the_same_checkpoint(
    save: Any, load_folder: Any, passes: Any, make_batch: Any
) -> None:
    saved = save("llama")
    loaded = load_checkpoint(load_folder(saved.base_folder, torch.bfloat16), saved.folder)
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.bfloat16}
    batch = make_batch(gist_ids=loaded.gist_ids, vocabulary=NUM_ROWS)
    one, two = passes.one(loaded.model, batch), passes.two(loaded.model, batch)
    assert torch.equal(one.argmax(-1)[batch.real()], two.argmax(-1)[batch.real()])


# ----------------------------------------------------------------------------------------- content


@pytest.mark.parametrize(
    ("architecture", "adapter"),
    [
        ("llama", {}),
        ("qwen3", {}),
        ("llama", {"target_modules": ("q_proj", "gate_proj")}),
        ("llama", WHOLE_MATRICES),
        ("gemma3-window-6", {}),
        ("gpt-neox", {}),
        ("gpt-neox", WHOLE_MATRICES_OF_NEOX),
    ],
)
def test_checkpoint_holds_only_what_was_trained_in_bfloat16(
    architecture: str, adapter: dict[str, Any], save: Any
) -> None:
    saved = save(architecture, **adapter)
    tensors = load_file(saved.folder / ADAPTER_FILE)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    trained = [weight for weight in saved.model.parameters() if weight.requires_grad]
    count = sum(weight.numel() for weight in trained)
    assert sum(tensor.numel() for tensor in tensors.values()) == count
    assert saved.manifest.trained_parameters == count
    allowed = ("lora_", "token_adapter", "trainable_tokens", *adapter.get("modules_to_save", ()))
    assert all(any(part in name for part in allowed) for name in tensors)
    size = (saved.folder / ADAPTER_FILE).stat().st_size
    assert saved.manifest.adapter_bytes == size


def test_folder_holds_three_files_and_no_pickle(save: Any) -> None:
    saved = save("llama")
    names = {str(path.relative_to(saved.folder)) for path in saved.folder.rglob("*")}
    assert names == {ADAPTER_FILE, ADAPTER_CONFIG_FILE, MANIFEST_FILE}
    with safe_open(saved.folder / ADAPTER_FILE, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_manifest_says_what_the_checkpoint_is(save: Any) -> None:
    saved = save("mistral-window-7")
    manifest = read_manifest(saved.folder)
    assert manifest == saved.manifest
    assert manifest.base.model_type == "mistral"
    assert manifest.base.num_rows == NUM_ROWS
    assert manifest.base.dtype == "float32"
    assert len(manifest.base.fingerprint) == 64
    assert manifest.num_gists == 3
    assert manifest.prompt_template == "{context}{gists}{question}"
    assert manifest.max_trained_context_tokens == 40
    assert validate(TrainConfig, manifest.training_config, "manifest").adapter.lora_rank == 4
    assert set(manifest.versions) == {"torch", "transformers", "peft"}
    fields = json.loads((saved.folder / ADAPTER_CONFIG_FILE).read_text())
    assert fields["base_model_name_or_path"] == manifest.base.name


def test_saving_twice_gives_the_same_adapter(save: Any, load_folder: Any, tmp_path: Path) -> None:
    saved = save("llama")
    base = load_folder(saved.base_folder)
    config = validate(TrainConfig, saved.manifest.training_config, "manifest")
    again = save_checkpoint(
        saved.model,
        base,
        config,
        saved.manifest.gist_ids,
        saved.folder,
        training_summary="again",
        max_trained_context_tokens=1,
        tasks=(),
    )
    assert again.adapter_sha256 == saved.manifest.adapter_sha256
    assert read_manifest(saved.folder).training_summary == "again"


def test_gist_rows_differ_from_each_other_and_follow_the_vocabulary(make_tiny: Any) -> None:
    model = make_tiny("llama")
    before = model.get_input_embeddings().weight[:61].clone()
    assert add_gist_rows(model, 4) == (61, 62, 63, 64)
    weight = model.get_input_embeddings().weight
    assert torch.equal(weight[:61], before)
    assert torch.cdist(weight[61:], weight[61:]).add(torch.eye(4)).min() > 0.5
    assert model.config.vocab_size == 65


def test_gist_rows_depend_on_the_seed_alone(make_tiny: Any) -> None:
    rows = []
    for global_seed, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(global_seed)
        model = make_tiny("llama")
        add_gist_rows(model, 2, seed=seed)
        rows.append(model.get_input_embeddings().weight[61:].detach())
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


def test_unknown_target_modules_are_refused_by_name(make_adapted: Any, make_tiny: Any) -> None:
    with pytest.raises(
        UsageError, match="target_modules 'qkv' is no module of a llama model"
    ) as raised:
        make_adapted(make_tiny("llama"), target_modules=("qkv",))
    assert "\n" not in str(raised.value)


# ---------------------------------------------------------------------------------------- refusals


def test_another_architecture_is_refused(
    save: Any, make_base_folder: Any, load_folder: Any
) -> None:
    saved = save("llama")
    for name, options in (("qwen2", {}), ("llama", {"intermediate_size": 40})):
        other = load_folder(make_base_folder(name, name=f"other-{name}", **options))
        for allow in (False, True):
            message = refusal(UsageError, other, saved.folder, allow_other_precision=allow)
            assert "was trained on" in message
            assert f"pass --base {saved.manifest.base.name}" in message


def test_other_weights_need_the_flag(save: Any, make_base_folder: Any, load_folder: Any) -> None:
    saved = save("llama")
    folder = make_base_folder("llama", name="other", seed=9)
    message = refusal(UsageError, load_folder(folder), saved.folder)
    assert "--allow-other-precision" in message
    loaded = load_checkpoint(load_folder(folder), saved.folder, allow_other_precision=True)
    assert loaded.gist_ids == saved.manifest.gist_ids


@pytest.mark.parametrize("file", [ADAPTER_FILE, ADAPTER_CONFIG_FILE])
def test_a_missing_file_is_refused(file: str, save: Any, load_folder: Any) -> None:
    saved = save("llama")
    (saved.folder / file).unlink()
    message = refusal(PrerequisiteError, load_folder(saved.base_folder), saved.folder)
    assert f"lacks {file}" in message
    assert "restore the whole folder" in message


@pytest.mark.parametrize("place", [0, 100, -1])
def test_one_changed_byte_is_refused(place: int, save: Any, load_folder: Any) -> None:
    saved = save("llama")
    content = bytearray((saved.folder / ADAPTER_FILE).read_bytes())
    content[place] ^= 1
    (saved.folder / ADAPTER_FILE).write_bytes(content)
    message = refusal(UsageError, load_folder(saved.base_folder), saved.folder)
    assert "changed or damaged: restore it" in message


def test_a_changed_adapter_configuration_is_refused(save: Any, load_folder: Any) -> None:
    saved = save("llama")
    path = saved.folder / ADAPTER_CONFIG_FILE
    path.write_text(path.read_text().replace('"lora_alpha": 8', '"lora_alpha": 80'))
    assert '"lora_alpha": 80' in path.read_text()
    refusal(UsageError, load_folder(saved.base_folder), saved.folder)


def test_the_same_weights_under_another_window_are_refused(save: Any, load_folder: Any) -> None:
    saved = save("mistral-window-7")
    path = saved.base_folder / "config.json"
    path.write_text(path.read_text().replace('"sliding_window": 7', '"sliding_window": 3'))
    assert AutoConfig.from_pretrained(saved.base_folder).sliding_window == 3
    refusal(UsageError, load_folder(saved.base_folder), saved.folder)


def test_a_missing_manifest_is_refused(save: Any, load_folder: Any) -> None:
    saved = save("llama")
    (saved.folder / MANIFEST_FILE).unlink()
    message = refusal(UsageError, load_folder(saved.base_folder), saved.folder)
    assert MANIFEST_FILE in message
    with pytest.raises(UsageError, match=f"no gist checkpoint at .*{MANIFEST_FILE}"):
        find_checkpoint(str(saved.folder))


def test_the_next_step_after_a_missing_manifest_is_about_checkpoints(
    save: Any, load_folder: Any
) -> None:
    saved = save("llama")
    (saved.folder / MANIFEST_FILE).unlink()
    message = refusal(UsageError, load_folder(saved.base_folder), saved.folder)
    assert "run directory" not in message


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 2}', '{"name": "x"}'])
def test_a_broken_manifest_is_refused(text: str, save: Any, load_folder: Any) -> None:
    saved = save("llama")
    (saved.folder / MANIFEST_FILE).write_text(text)
    assert MANIFEST_FILE in refusal(UsageError, load_folder(saved.base_folder), saved.folder)


def test_a_base_that_has_gist_rows_already_is_refused(save: Any, load_folder: Any) -> None:
    saved = save("llama")
    base = load_folder(saved.base_folder)
    load_checkpoint(base, saved.folder)
    assert "would place them at 323" in refusal(UsageError, base, saved.folder)


def test_checkpoints_are_found_by_folder_and_inside_a_training_folder(save: Any) -> None:
    saved = save("llama")
    assert find_checkpoint(str(saved.folder)) == saved.folder
    with pytest.raises(UsageError, match="name one of these") as raised:
        find_checkpoint(str(saved.folder.parent))
    assert str(saved.folder) in str(raised.value)
    with pytest.raises(UsageError, match="no gist checkpoint at 'nowhere'"):
        find_checkpoint("nowhere")


# ------------------------------------------------------------------------------------------ counts


def on_meta(name: str, preset: str) -> Any:
    config = validate(TrainConfig, load_preset(preset), preset)
    fields = dict(architecture_of(name) or {})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(fields.pop("model_type"), **fields),
            attn_implementation=ATTENTION,
            dtype=torch.bfloat16,
        )
        gist_ids = add_gist_rows(model, config.adapter.num_gists)
        return add_adapter(model, config, gist_ids), gist_ids


def test_the_seed_recipe_trains_exactly_as_many_parameters_as_the_seed_says() -> None:
    model, gist_ids = on_meta("llama-3-8b", "gist-global-10")
    assert gist_ids == tuple(range(128256, 128266))
    assert num_trained_parameters(model) == (1_064_386_560, 9_094_729_728)


def test_gist_rows_alone_are_eighty_times_fewer() -> None:
    config = validate(TrainConfig, load_preset("gist-global-10"), "preset")
    adapter = config.adapter.model_copy(update={"modules_to_save": ()})
    model, _ = on_meta("llama-3-8b", "gist-global-10")
    assert num_trained_parameters(model)[0] / 13_672_448 > 75
    fields = dict(architecture_of("llama-3-8b") or {})
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(fields.pop("model_type"), **fields), dtype=torch.bfloat16
        )
        rows = add_gist_rows(base, 10)
        small = add_adapter(base, config.model_copy(update={"adapter": adapter}), rows)
    assert num_trained_parameters(small)[0] == 13_672_448
