"""Predicted sizes are those of real architectures: of Llama to the byte."""

from __future__ import annotations

from typing import Any

import pytest

from gistbench.core.footprint import Architecture

LLAMA_3_8B: dict[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
}


def test_parameters_of_llama_3_8b_are_those_published() -> None:
    sizes = Architecture.of(LLAMA_3_8B)
    assert sizes.linear_parameters + sizes.dense_parameters() == 8_030_261_248


@pytest.mark.parametrize(
    ("fields", "published"),
    [
        (  # Pythia 160M (arXiv 2304.01373): two matrices in the feed-forward layers, no gate
            {
                "model_type": "gpt_neox",
                "vocab_size": 50304,
                "hidden_size": 768,
                "intermediate_size": 3072,
                "num_hidden_layers": 12,
                "num_attention_heads": 12,
                "tie_word_embeddings": False,
            },
            162_322_944,
        ),
        (  # Gemma 3 1B: heads wider than the hidden size allows
            {
                "model_type": "gemma3_text",
                "vocab_size": 262144,
                "hidden_size": 1152,
                "intermediate_size": 6912,
                "num_hidden_layers": 26,
                "num_attention_heads": 4,
                "num_key_value_heads": 1,
                "head_dim": 256,
                "tie_word_embeddings": True,
            },
            999_885_952,
        ),
    ],
)
def test_parameters_of_other_architectures_are_those_published_but_for_biases_and_more_norms(
    fields: dict[str, Any], published: int
) -> None:
    sizes = Architecture.of(fields)
    assert sizes.linear_parameters + sizes.dense_parameters() == pytest.approx(published, rel=1e-3)


def test_gist_rows_count_in_both_matrices_unless_tied() -> None:
    untied = Architecture.of(LLAMA_3_8B)
    tied = Architecture.of({**LLAMA_3_8B, "tie_word_embeddings": True})
    assert untied.dense_parameters(10) - untied.dense_parameters() == 2 * 10 * 4096
    assert tied.dense_parameters(10) - tied.dense_parameters() == 10 * 4096


def test_a_token_of_llama_3_8b_takes_128_kib_in_bfloat16() -> None:
    assert Architecture.of(LLAMA_3_8B).key_value_bytes_per_token("bfloat16") == 128 * 1024


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("bfloat16", 2), ("float16", 2)])
def test_weights_take_their_width(dtype: str, width: int) -> None:
    assert Architecture.of(LLAMA_3_8B).weights_bytes(dtype, "none") == 8_030_261_248 * width


def test_nf4_is_half_a_byte_with_doubly_quantised_scales() -> None:
    """One byte for each 64 elements, one float32 for each 256 of those bytes."""
    sizes = Architecture.of(LLAMA_3_8B)
    linear = sizes.linear_parameters
    expected = sizes.dense_parameters() * 2 + linear // 2 + linear // 64 + linear // 16384 * 4
    assert sizes.weights_bytes("bfloat16", "nf4") == expected


def test_heads_default_as_in_transformers() -> None:
    fields = {key: value for key, value in LLAMA_3_8B.items() if key != "num_key_value_heads"}
    sizes = Architecture.of(fields)
    assert sizes.num_kv_heads == 32
    assert sizes.head_dim == 128
    assert Architecture.of({**fields, "head_dim": 96}).head_dim == 96
