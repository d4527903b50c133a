"""Compressed contexts on disk: one safetensors file each.

A file holds ``keys`` and ``values``, ``(layers, 1, kv_heads, slots, head_dim)``, and in its
metadata, as text, the layout that they were read with (``positions`` of the slots where the context
was read in segments) and a sha256 of everything else in it. One
that is meant to outlive its run also says where it comes from (`gistbench.models.origin`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from gistbench.core.cache import ContextCache
from gistbench.core.layout import GistLayout
from gistbench.errors import UsageError, first_line
from gistbench.storage import write_bytes_atomically

SEAL = "sha256"
TENSORS = ("keys", "values")


def save_context(
    cache: ContextCache, path: Path, *, origin: Mapping[str, str] | None = None
) -> None:
    """Write one compressed context, whole or not at all.

    Args:
        cache: Of one row.
        path: Where to.
        origin: Further metadata.

    Raises:
        ValueError: The cache holds more than one context.
        UsageError: The disk is full or the folder cannot be written.
    """
    if cache.layout.batch_size != 1 or any(cache.layout.prefix_padding):
        raise ValueError("one file holds one context; take a row of the batch first")
    tensors = {"keys": torch.stack(cache.keys).cpu(), "values": torch.stack(cache.values).cpu()}
    metadata = {
        **(origin or {}),
        "prefix_length": str(cache.layout.prefix_length),
        "segmented": str(cache.layout.segmented),
    }
    if cache.layout.memory:
        metadata["positions"] = json.dumps(cache.layout.memory[0])
    metadata[SEAL] = _seal(tensors, metadata)
    write_bytes_atomically(path, save(tensors, metadata))


def load_context(path: Path, device: str | torch.device = "cpu") -> ContextCache:
    """Read one compressed context, to the last bit as it was saved.

    Raises:
        UsageError: As `read_context`.
    """
    return read_context(path, device)[0]


def read_context(
    path: Path, device: str | torch.device = "cpu"
) -> tuple[ContextCache, Mapping[str, str]]:
    """Read one compressed context and the metadata beside it.

    Raises:
        UsageError: There is no such file; it was cut short, changed, or holds something else.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            names = set(file.keys())
            if SEAL not in metadata or names != set(TENSORS):
                raise UsageError(
                    f"{path} is a safetensors file but holds no compressed context; name one that "
                    "`gistbench compress` wrote"
                )
            tensors = {name: file.get_tensor(name) for name in TENSORS}
    except (OSError, SafetensorError) as error:
        if isinstance(error, FileNotFoundError) or not path.exists():
            raise UsageError(
                f"{path} does not exist; write it with `gistbench compress FILE --output {path}`"
            ) from error
        raise UsageError(
            f"{path} cannot be read as a compressed context ({first_line(error)}): it was cut "
            "short or is another kind of file; compress the text again"
        ) from error
    if _seal(tensors, {k: v for k, v in metadata.items() if k != SEAL}) != metadata[SEAL]:
        raise UsageError(
            f"{path} was changed after it was written (its sha256 does not fit what it holds); "
            "restore it or compress the text again"
        )
    keys, values = (tensors[name].to(device) for name in TENSORS)
    positions = json.loads(metadata.get("positions", "[]"))
    layout = GistLayout(
        int(metadata["prefix_length"]),
        keys.shape[3],
        (0,),
        (0,),
        stage="suffix",
        segmented=metadata["segmented"] == "True",
        memory=(tuple(positions),) if positions else (),
    )
    return ContextCache(keys.unbind(0), values.unbind(0), layout), metadata


def _seal(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    """sha256 over the metadata and every byte, type and shape of the tensors."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in TENSORS:
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class GistStore:
    """Compressed contexts of a run, by the hash of their prompt."""

    folder: Path
    device: str

    def save(self, prompt_sha256: str, cache: ContextCache) -> None:
        """Keep one context."""
        save_context(cache, self._path(prompt_sha256))

    def load(self, prompt_sha256: str) -> ContextCache | None:
        """One context, or None if it was never compressed here."""
        path = self._path(prompt_sha256)
        return load_context(path, self.device) if path.is_file() else None

    def _path(self, prompt_sha256: str) -> Path:
        return self.folder / f"{prompt_sha256}.safetensors"
