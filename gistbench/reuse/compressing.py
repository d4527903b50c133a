"""A text is read once and written into a file of gist tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gistbench.core.cache import ContextCache
from gistbench.errors import TooLongError
from gistbench.models.gist_file import save_context
from gistbench.models.origin import ContextOrigin
from gistbench.models.reading import segment_lengths
from gistbench.models.reading_cost import ReadingCost, measured_read
from gistbench.reuse.model import Compressor
from gistbench.reuse.text import Text, require_free, text_tokens


@dataclass(frozen=True, slots=True)
class Compressed:
    """A compressed text, and what compressing it took.

    Attributes:
        cache: The gists' keys and values.
        origin: What it was made from and with.
        cost: Of the read alone, without loading.
    """

    cache: ContextCache
    origin: ContextOrigin
    cost: ReadingCost

    @property
    def compression_ratio(self) -> float:
        """Tokens of the text over slots kept."""
        return self.origin.context_tokens / self.cache.num_slots


def compress(
    compressor: Compressor,
    text: Text,
    *,
    chunk_tokens: int | None = None,
    segment_tokens: int | None = None,
) -> Compressed:
    """Read a text into gist tokens.

    Args:
        compressor: The model and its gists.
        text: What to read.
        chunk_tokens: Read so many tokens at a time: less memory, the same gists.
        segment_tokens: Write gists for every so many tokens and drop these before the next are
            read: memory does not grow with the text. No shipped checkpoint was trained for it.

    Raises:
        TooLongError: The model has no positions for it.
    """
    tokens = text_tokens(compressor.base.tokenizer, text)
    gist_ids = compressor.trained.gist_ids
    segments = segment_lengths(len(tokens), segment_tokens or len(tokens))
    _require_positions(compressor, text, len(tokens) + len(segments) * len(gist_ids))
    cache, cost = measured_read(
        compressor.trained.model,
        tokens,
        gist_ids=gist_ids,
        segmented=compressor.segmented,
        segment_tokens=segment_tokens,
        chunk_tokens=chunk_tokens,
    )
    manifest = compressor.trained.manifest
    origin = ContextOrigin(
        base=compressor.base.reference,
        checkpoint=manifest.name,
        checkpoint_sha256=manifest.adapter_sha256,
        checkpoint_config_sha256=manifest.adapter_config_sha256,
        num_gists=manifest.num_gists,
        context_tokens=len(tokens),
        text_sha256=text.sha256,
        segment_tokens=segment_tokens if len(segments) > 1 else None,
    )
    return Compressed(cache, origin, cost)


def write(compressed: Compressed, output: Path, *, force: bool = False) -> None:
    """Write a compressed text to its file, whole or not at all.

    Raises:
        UsageError: The file is there already, or cannot be written.
    """
    require_free(output, force=force)
    save_context(compressed.cache, output, origin=compressed.origin.metadata())


def _require_positions(compressor: Compressor, text: Text, needed: int) -> None:
    # One position more, for the shortest question.
    most = compressor.base.max_positions
    if needed + 1 > most:
        raise TooLongError(
            f"{text.name} needs {needed:,} positions with its gists, and a question at least one "
            f"more; {compressor.base.reference.name} has {most:,}: shorten the text, or choose a "
            "base model and checkpoint with more"
        )
