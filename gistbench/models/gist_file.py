"""Compressed contexts on disk: one safetensors file each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gistbench.core.cache import ContextCache
from gistbench.core.layout import GistLayout


def save_context(cache: ContextCache, path: Path) -> None:
    """Write one compressed context: keys and values of all layers, and where it ended.

    Raises:
        ValueError: The cache holds more than one context.
    """
    if cache.layout.batch_size != 1 or any(cache.layout.prefix_padding):
        raise ValueError("one file holds one context; take a row of the batch first")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    tensors = {"keys": torch.stack(cache.keys).cpu(), "values": torch.stack(cache.values).cpu()}
    layout = {
        "prefix_length": str(cache.layout.prefix_length),
        "segmented": str(cache.layout.segmented),
    }
    save_file(tensors, temporary, metadata=layout)
    os.replace(temporary, path)


def load_context(path: Path, device: str | torch.device = "cpu") -> ContextCache:
    """Read a compressed context: keys and values ``(layers, 1, kv_heads, slots, head_dim)``."""
    with safe_open(path, framework="pt", device=str(device)) as file:
        keys, values = file.get_tensor("keys"), file.get_tensor("values")
        known = file.metadata()
    layout = GistLayout(
        int(known["prefix_length"]),
        keys.shape[3],
        (0,),
        (0,),
        stage="suffix",
        segmented=known.get("segmented") == "True",
    )
    return ContextCache(keys.unbind(0), values.unbind(0), layout)


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
