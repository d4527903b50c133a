"""Where a compressed context comes from, as its file says: text, base model, checkpoint.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gistbench.errors import UsageError
from gistbench.models.manifest import BaseReference, Manifest
from gistbench.records import Record

ORIGIN, FORMAT = "origin", "format_version"
FORMAT_VERSION = "1"


class ContextOrigin(Record):
    """What a compressed context was made from and with.

    Attributes:
        base: The base model, with the sha256 of its weights, the precision of weights and cache,
            and the quantisation.
        checkpoint: Name of the checkpoint.
        checkpoint_sha256: Of its adapter.
        checkpoint_config_sha256: Of the adapter's configuration, which scales the adapter.
        num_gists: Gist tokens that were appended to what was read.
        context_tokens: Tokens of the text.
        text_sha256: Of the text's bytes as they were given.
        segment_tokens: Length of the parts that were read one by one, if they were.
    """

    base: BaseReference
    checkpoint: str
    checkpoint_sha256: str
    checkpoint_config_sha256: str
    num_gists: int
    context_tokens: int
    text_sha256: str
    segment_tokens: int | None = None

    def metadata(self) -> dict[str, str]:
        """As a file's metadata, which are text."""
        return {FORMAT: FORMAT_VERSION, ORIGIN: self.model_dump_json()}


def origin_of(metadata: Mapping[str, str], path: Path) -> ContextOrigin:
    """The origin that a file's metadata tell.

    Raises:
        UsageError: They tell none, or are of another version.
    """
    version = metadata.get(FORMAT)
    if version is not None and version != FORMAT_VERSION:
        raise UsageError(
            f"{path} has format version {version[:20]}, this gistbench reads {FORMAT_VERSION}; "
            "use the gistbench that wrote it, or compress the text again"
        )
    try:
        return ContextOrigin.model_validate_json(metadata.get(ORIGIN, ""))
    except ValidationError as error:
        raise UsageError(
            f"{path} does not say which model and text it comes from; name a file that "
            "`gistbench compress` wrote"
        ) from error


def require_checkpoint(origin: ContextOrigin, manifest: Manifest, path: Path) -> None:
    """Refuse a checkpoint that a context was not written with.

    Raises:
        UsageError: Names both by hash.
    """
    pairs = (
        (origin.checkpoint_sha256, manifest.adapter_sha256),
        (origin.checkpoint_config_sha256, manifest.adapter_config_sha256),
    )
    for wrote, given in pairs:
        if wrote != given:
            raise UsageError(
                f"{path} was written with checkpoint {origin.checkpoint} (sha256 {wrote[:12]}…), "
                f"not with {manifest.name} ({given[:12]}…); pass --checkpoint with that one's "
                "folder, or compress the text again"
            )


def require_base(origin: ContextOrigin, base: BaseReference, path: Path) -> None:
    """Refuse a base model that a context was not written with.

    Raises:
        UsageError: Names both by hash, or the first setting in which they differ.
    """
    wrote = origin.base
    if base.fingerprint != wrote.fingerprint:
        raise UsageError(
            f"{path} was written with weights {wrote.fingerprint[:12]}… of {wrote.name}, "
            f"{base.name} has {base.fingerprint[:12]}…; pass --base {wrote.name}, or compress the "
            "text again"
        )
    for name, value in _settings(wrote).items():
        if _settings(base).get(name) != value:
            raise UsageError(
                f"{path} was written with {name} {value} of {wrote.name}, {base.name} has "
                f"{_settings(base).get(name)}; pass --base {wrote.name}, or compress the text again"
            )


def _settings(base: BaseReference) -> dict[str, Any]:
    """What changes the numbers that the same weights compute."""
    own = {"dtype": base.dtype, "quantization": base.quantization, "num_rows": base.num_rows}
    return {**base.architecture, **own}
