"""GGUF files, dequantised once into a folder that plain transformers loads."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from gistbench.errors import PrerequisiteError, first_line
from gistbench.models.catalog import dequantised_folder, file_sha256

SOURCE_FILE = "source.json"
"""Beside dequantised weights: the GGUF file they came from, and its sha256."""

_log = logging.getLogger(__name__)


def dequantise(file: Path) -> Path:
    """The dequantised copy of a GGUF file, made once.

    transformers may keep GGUF weights packed and cannot save such a model, so the dense float32
    tensors are written here, whole or not at all, with the tokenizer and the configuration.
    """
    digest = file_sha256(file)
    target = dequantised_folder(digest)
    if (target / SOURCE_FILE).is_file():
        return target
    with _exclusive(target):
        if not (target / SOURCE_FILE).is_file():
            _log.info("dequantising %s once, into the cache", file.name)
            _write_dequantised(file, digest, target)
    return target


def _write_dequantised(file: Path, digest: str, target: Path) -> None:
    options: dict[str, Any] = {}
    try:
        from transformers import GgufConfig

        options["quantization_config"] = GgufConfig(dequantize=True)
    except ImportError:  # older transformers always dequantise
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            model = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32, **options
            )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise PrerequisiteError(
            f"{file.name} cannot be read as a GGUF model ({first_line(error)}); "
            "check the file, and that the package gguf is installed"
        ) from error
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".dequantising-"))
    try:
        config = model.config
        for leftover in ("quantization_config", "_name_or_path"):
            if hasattr(config, leftover):
                delattr(config, leftover)
        config.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        tensors = {
            name: tensor.contiguous()
            for name, tensor in model.state_dict().items()
            if not (config.tie_word_embeddings and name == "lm_head.weight")
        }
        save_file(tensors, scratch / "model.safetensors", metadata={"format": "pt"})
        origin = {"gguf": file.name, "gguf_sha256": digest}
        (scratch / SOURCE_FILE).write_text(json.dumps(origin), encoding="utf-8")
        os.replace(scratch, target)
    except OSError as error:
        raise PrerequisiteError(
            f"the dequantised weights cannot be kept in {target.parent} ({error.strerror}); "
            "free about four times the GGUF file's size there, or set GISTBENCH_CACHE"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _exclusive(target: Path) -> Iterator[None]:
    """One process at a time prepares a folder; the others wait for it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (target.parent / f"{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except PermissionError as error:
        raise PrerequisiteError(
            f"the cache folder {target.parent} cannot be written; set GISTBENCH_CACHE to one that "
            "can"
        ) from error
