"""Names of base models lead to weights, or to one sentence that says what to do."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from gistbench.errors import GistbenchError, PrerequisiteError, UsageError
from gistbench.models.catalog import (
    CATALOG,
    architecture_of,
    dequantised_folder,
    fetched_folder,
    file_sha256,
    find_model,
    fingerprint,
    packaged_gguf,
    weight_files,
)


@pytest.mark.parametrize(
    ("name", "near"),
    [("smollm2-135", "smollm2-135m"), ("smolm2", "smollm2-135m"), ("llama3-8b", "llama-3-8b")],
)
def test_unknown_names_suggest_near_ones(name: str, near: str) -> None:
    with pytest.raises(UsageError) as raised:
        find_model(name)
    assert f"unknown base model {name!r}, did you mean {near!r}?" in str(raised.value)


def test_names_near_to_nothing_list_what_is_known() -> None:
    with pytest.raises(UsageError, match=r"known: llama-3-8b, smollm2-135m; or give a hub name"):
        find_model("zzz")


def test_a_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    source = find_model(str(tmp_path))
    assert (source.kind, source.location) == ("folder", str(tmp_path))


def test_a_gguf_file_is_found_with_a_note_on_its_weights(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    source = find_model(str(file))
    assert (source.kind, source.location) == ("gguf", str(file))
    assert "dequantised" in source.weights_note


@pytest.mark.parametrize("name", ["mistralai/Mistral-7B-v0.3", "Qwen/Qwen3-0.6B"])
def test_owner_and_model_are_a_hub_name(name: str) -> None:
    source = find_model(name)
    assert (source.kind, source.location) == ("hub", name)


def test_catalogued_names_lead_to_package_and_hub() -> None:
    assert find_model("llama-3-8b").location == "meta-llama/Meta-Llama-3-8B-Instruct"
    source = find_model("smollm2-135m")
    assert source.kind == "gguf"
    assert Path(source.location).is_file()
    assert "4-bit" in source.weights_note


@pytest.mark.parametrize("name", ["./missing/model", "/missing/model", "a/b/c", "missing.gguf", ""])
def test_what_is_not_there_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(UsageError) as raised:
        find_model(name)
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no config\.json"):
        find_model(str(tmp_path))


def test_missing_package_says_how_to_fetch_the_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    monkeypatch.setenv("GISTBENCH_CACHE", str(tmp_path))
    entry = CATALOG["smollm2-135m"]
    with pytest.raises(PrerequisiteError, match="run `gistbench models fetch smollm2-135m`"):
        find_model("smollm2-135m")
    file = fetched_folder(entry) / "model.gguf"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"GGUF")
    assert packaged_gguf(entry) == file
    assert find_model("smollm2-135m").location == str(file)


def test_hub_models_have_nothing_to_fetch() -> None:
    with pytest.raises(GistbenchError, match="comes from the hub"):
        packaged_gguf(CATALOG["llama-3-8b"])


def test_architectures_are_known_by_short_name_and_hub_name() -> None:
    assert architecture_of("smollm2-135m") is architecture_of("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert architecture_of("owner/other") is None


def test_safetensors_are_preferred_to_pickles(tmp_path: Path) -> None:
    for name in ("b.safetensors", "a.safetensors", "pytorch_model.bin", "config.json"):
        (tmp_path / name).write_text(name)
    assert [file.name for file in weight_files(tmp_path)] == ["a.safetensors", "b.safetensors"]


def test_fingerprint_depends_on_every_byte_and_not_on_the_order(tmp_path: Path) -> None:
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file in files:
        file.write_text(file.name)
    before = fingerprint(files)
    assert fingerprint(files[::-1]) == before
    files[1].write_text("b.safetensorS")
    assert fingerprint(files) != before
    assert fingerprint(files[:1]) != before


def test_converted_weights_are_kept_where_the_user_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GISTBENCH_CACHE", str(tmp_path))
    (tmp_path / "file").write_text("x")
    digest = file_sha256(tmp_path / "file")
    assert dequantised_folder(digest) == tmp_path / "dequantised" / digest[:16]


def test_names_are_resolved_without_torch() -> None:
    code = (
        "import sys, gistbench.models.catalog, gistbench.models.manifest;"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
