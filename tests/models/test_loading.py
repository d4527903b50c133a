"""A base model is loaded whole, with the gist attention, or refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gistbench.errors import PrerequisiteError, UsageError
from gistbench.models.attention import ATTENTION
from gistbench.models.catalog import find_model, fingerprint, weight_files
from gistbench.models.loading import (
    ARCHITECTURE_FIELDS,
    key_value_bytes_per_token,
    load_base,
    load_tokenizer,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_is_loaded_with_the_gist_attention(
    make_base_folder: Any, load_folder: Any, dtype: torch.dtype
) -> None:
    folder = make_base_folder("mistral-window-7")
    base = load_folder(folder, dtype)
    assert base.model.config._attn_implementation == ATTENTION
    assert base.model.config.sliding_window == 7
    assert not base.model.training
    assert {weight.dtype for weight in base.model.parameters()} == {dtype}
    assert base.folder == folder
    assert base.num_text_tokens == 320
    assert base.max_positions == 512


def test_no_text_tokenises_to_a_gist(make_base_folder: Any, load_folder: Any) -> None:
    base = load_folder(make_base_folder("llama"))
    assert len(base.tokenizer) <= base.num_text_tokens


def test_reference_identifies_the_weights(make_base_folder: Any, load_folder: Any) -> None:
    folder = make_base_folder("qwen2")
    reference = load_folder(folder).reference
    assert reference.model_type == "qwen2"
    assert reference.fingerprint == fingerprint(weight_files(folder))
    assert set(reference.architecture) == set(ARCHITECTURE_FIELDS)
    assert reference.architecture["num_key_value_heads"] == 2
    # The precision in use is no part of the weights' identity.
    other = load_folder(folder, torch.bfloat16).reference
    assert (other.dtype, other.fingerprint) == ("bfloat16", reference.fingerprint)
    assert load_folder(make_base_folder("qwen2", name="b", seed=3)).reference.fingerprint != (
        reference.fingerprint
    )


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("gemma3-window-6", {"layer_types": ["full_attention"] * 3}),
        ("gemma3-window-6", {"query_pre_attn_scalar": 5}),
        ("gemma3-window-9-capped", {"final_logit_softcapping": None}),
        ("gpt-neox", {"use_parallel_residual": False}),
        ("gpt-neox", {"rotary_pct": 0.5}),
    ],
)
def test_reference_tells_apart_what_the_same_weights_compute(
    architecture: str, changes: dict[str, Any], make_base_folder: Any, load_folder: Any
) -> None:
    one = load_folder(make_base_folder(architecture)).reference
    other = load_folder(make_base_folder(architecture, name="other", **changes)).reference
    assert one.fingerprint == other.fingerprint
    assert one.architecture != other.architecture


def test_pythia_weights_on_the_hub_keep_their_old_names(
    make_base_folder: Any, load_folder: Any
) -> None:
    folder = make_base_folder("gpt-neox")
    tensors = load_file(folder / "model.safetensors")
    assert "embed_out.weight" in tensors
    # Buffers of old versions, which nothing reads.
    tensors["gpt_neox.layers.0.attention.bias"] = torch.ones(1, 1, 8, 8)
    tensors["gpt_neox.layers.0.attention.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model = load_folder(folder).model
    assert torch.equal(model.get_output_embeddings().weight, tensors["embed_out.weight"])


def test_key_value_bytes_are_those_of_a_real_cache(tiny: Any) -> None:
    from gistbench.models.decode import read_contexts

    context = read_contexts(tiny, [[1, 2, 3, 4, 5]], keep_all=True)
    assert 5 * key_value_bytes_per_token(tiny.config, torch.float32) == context.num_bytes


def refused(kind: type[Exception], folder: Path) -> str:
    with pytest.raises(kind) as raised:
        load_base(find_model(str(folder)), dtype=torch.float32, device="cpu")
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_an_unsupported_architecture_is_refused_before_its_weights_are_read(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert "'gpt2' is not supported by gist attention" in refused(UsageError, tmp_path)


def test_code_of_an_unknown_model_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    fields = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.EvilConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert "--trust-remote-code" in refused(PrerequisiteError, tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize("text", ["", "{", '{"model_type": "nothing"}', "{}"])
def test_a_broken_configuration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert "config.json cannot be read" in refused(PrerequisiteError, tmp_path)


def test_missing_weights_are_refused(make_base_folder: Any) -> None:
    folder = make_base_folder("llama")
    (folder / "model.safetensors").unlink()
    assert "cannot be loaded" in refused(PrerequisiteError, folder)


def test_a_missing_tokenizer_is_refused(make_base_folder: Any) -> None:
    folder = make_base_folder("llama")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "put tokenizer.json beside the weights" in refused(PrerequisiteError, folder)
    with pytest.raises(PrerequisiteError):
        load_tokenizer(folder)


def test_weights_that_lack_a_matrix_are_refused(make_base_folder: Any) -> None:
    """transformers would draw it at random, and warn."""
    folder = make_base_folder("llama")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.self_attn.k_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "restore the whole model" in refused(PrerequisiteError, folder)


def test_weights_cut_short_are_refused(make_base_folder: Any) -> None:
    folder = make_base_folder("llama")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert "check that the folder holds the whole model" in refused(PrerequisiteError, folder)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GISTBENCH_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"not a model at all")
    assert "cannot be read as a GGUF model" in refused(PrerequisiteError, file)
