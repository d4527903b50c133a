"""Bytes and parameters predicted from an architecture alone; torch on the meta device at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BYTES_PER_ELEMENT = {"float32": 4, "bfloat16": 2, "float16": 2}

NF4_BLOCK, NF4_SCALE_BLOCK = 64, 256
"""Elements that share one 8-bit scale in NF4 with double quantisation (arXiv 2305.14314), and
scales that share one float32."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder's sizes, as far as memory depends on them."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    tied: bool
    num_feed_forward_matrices: int = 3

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Architecture:
        """From a transformers configuration's fields."""
        heads = int(fields["num_attention_heads"])
        return cls(
            vocab_size=int(fields["vocab_size"]),
            hidden_size=int(fields["hidden_size"]),
            intermediate_size=int(fields["intermediate_size"]),
            num_layers=int(fields["num_hidden_layers"]),
            num_heads=heads,
            num_kv_heads=int(fields.get("num_key_value_heads") or heads),
            head_dim=int(fields.get("head_dim") or int(fields["hidden_size"]) // heads),
            tied=bool(fields.get("tie_word_embeddings", False)),
            # Without a gate (Pythia), one matrix up and one down.
            num_feed_forward_matrices=2 if fields.get("model_type") == "gpt_neox" else 3,
        )

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers inside the blocks: what NF4 quantises."""
        attention = self.hidden_size * self.head_dim * (2 * self.num_heads + 2 * self.num_kv_heads)
        feed_forward = self.num_feed_forward_matrices * self.hidden_size * self.intermediate_size
        return self.num_layers * (attention + feed_forward)

    def dense_parameters(self, extra_rows: int = 0) -> int:
        """Embeddings, output matrix and norms: what stays in the computation's precision."""
        matrices = (self.vocab_size + extra_rows) * self.hidden_size * (1 if self.tied else 2)
        norms = (2 * self.num_layers + 1) * self.hidden_size
        return matrices + norms

    def weights_bytes(self, dtype: str, quantization: str, extra_rows: int = 0) -> int:
        """Bytes of all weights. NF4: half a byte an element, and the scales of the blocks."""
        element = BYTES_PER_ELEMENT[dtype]
        dense = self.dense_parameters(extra_rows) * element
        if quantization == "nf4":
            scales = self.linear_parameters // NF4_BLOCK
            return dense + self.linear_parameters // 2 + scales + scales // NF4_SCALE_BLOCK * 4
        return dense + self.linear_parameters * element

    def key_value_bytes_per_token(self, dtype: str) -> int:
        """Bytes of one token's keys and values over all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * BYTES_PER_ELEMENT[dtype]

    def reading_bytes(
        self,
        dtype: str,
        segments: Sequence[int],
        num_gists: int,
        *,
        chunk_tokens: int | None = None,
    ) -> int:
        """Most bytes of keys and values that are held while a context is compressed.

        A segment's pass copies the gists of those before it, so these are held twice.
        Beside it a pass needs the weights and the activations of its own tokens: of all of them, or
        of one chunk or segment.

        Args:
            dtype: Of the cache.
            segments: Context tokens of each segment; one for a context that is read as a whole.
            num_gists: Gist tokens of each segment.
            chunk_tokens: Slots of a pass at most. A segment of more is held until its last chunk.
        """
        held = [
            2 * before * num_gists
            + (
                num_gists
                if chunk_tokens is None or length + num_gists <= chunk_tokens
                else length + num_gists
            )
            for before, length in enumerate(segments)
        ]
        return max(held) * self.key_value_bytes_per_token(dtype)
