"""Floors are counted from the architecture, and by hand they come out the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gistbench.core.footprint import Architecture
from gistbench.core.operations import (
    TrainingStep,
    block_operations,
    decoding_bytes,
    training_operations,
    unpacking_bytes,
)

LLAMA_3_8B: dict[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
}
SEED_STEP = TrainingStep(
    num_sequences=8,
    prefix_tokens=4935,
    visible_tokens=10,
    suffix_tokens=22,
    logit_tokens=8,
    num_turns=8,
)


def test_pairs_are_those_of_the_mask() -> None:
    from gistbench.core.layout import GistLayout
    from gistbench.core.mask import dense_mask

    step = TrainingStep(
        3, prefix_tokens=9, visible_tokens=2, suffix_tokens=4, logit_tokens=1, num_turns=3
    )
    layout = GistLayout(9, 2, (0,) * 3, (0,) * 3, "joint")
    assert step.num_pairs == int(dense_mask(layout, 4).sum())
    everything = replace(step, visible_tokens=9)
    assert everything.num_pairs == 3 * 13 * 14 // 2
    asked_twice = replace(step, num_turns=6)
    assert asked_twice.num_pairs - step.num_pairs == 3 * (4 * 2 + 4 * 5 // 2)
    assert asked_twice.num_tokens - step.num_tokens == 3 * 4


def test_a_forward_pass_takes_the_operations_that_torch_counts() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    config = AutoConfig.for_model("llama", **fields)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for weight in model.parameters():
        weight.requires_grad_(False)
    embeddings = torch.randn(2, 24, 32, requires_grad=True)
    sizes = Architecture.of(config.to_dict())
    step = TrainingStep(
        2, prefix_tokens=24, visible_tokens=0, suffix_tokens=0, logit_tokens=24, num_turns=2
    )
    # Eager attention computes both halves of the square, the floor one.
    square = 4 * 3 * 4 * 8 * 2 * 24 * 24
    half = 4 * 3 * 4 * 8 * step.num_pairs
    head = 2 * 32 * 96 * 2 * 24
    # Rotary phases are a product of matrices too, and in no floor.
    rotary = 2 * 2 * 4 * 24
    with FlopCounterMode(display=False) as forward:
        logits = model(inputs_embeds=embeddings, use_cache=False).logits
    counted = forward.get_total_flops() - square + half - head
    assert counted == pytest.approx(block_operations(sizes, step), abs=rotary)
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    total = forward.get_total_flops() + backward.get_total_flops() - 3 * (square - half)
    expected = training_operations(sizes, step, recompute=False)
    assert total == pytest.approx(expected, abs=rotary)


def test_the_seed_recipe_takes_as_long_as_was_once_worked_out_by_hand() -> None:
    """8 x 4,957 tokens at 790 TFLOP/s: 1.6 s, and with everything computed twice about 2.4 s."""
    sizes = Architecture.of(LLAMA_3_8B)
    seconds = [
        training_operations(sizes, SEED_STEP, recompute=recompute) / 790e12
        for recompute in (False, True)
    ]
    assert seconds == [pytest.approx(1.60, abs=0.02), pytest.approx(2.36, abs=0.02)]


def test_what_is_trained_costs_more() -> None:
    sizes = Architecture.of(LLAMA_3_8B)
    least = training_operations(sizes, SEED_STEP, recompute=False)
    lora = replace(SEED_STEP, adapter_parameters=13_631_488)
    assert training_operations(sizes, lora, recompute=False) - least == (
        6 * 13_631_488 * SEED_STEP.num_tokens
    )
    head = replace(SEED_STEP, head_is_trained=True)
    assert training_operations(sizes, head, recompute=False) - least == 2 * 4096 * 128256 * 64


def test_a_decoding_step_reads_all_weights_but_the_input_embedding_and_the_cache() -> None:
    sizes = Architecture.of(LLAMA_3_8B)
    options: dict[str, Any] = {"dtype": "bfloat16", "quantization": "none"}
    one = decoding_bytes(sizes, num_rows=1, slots=5000, **options)
    assert one == 2 * (8_030_261_248 - 128_255 * 4096) + 5000 * 128 * 1024
    many = decoding_bytes(sizes, num_rows=32, slots=5000, **options)
    assert many - one == 31 * (2 * 4096 + 5000 * 128 * 1024)


def test_a_tied_matrix_is_read_as_the_output_matrix() -> None:
    tied = Architecture.of({**LLAMA_3_8B, "tie_word_embeddings": True})
    untied = Architecture.of(LLAMA_3_8B)
    read = [
        decoding_bytes(sizes, num_rows=0, slots=0, dtype="bfloat16", quantization="nf4")
        for sizes in (tied, untied)
    ]
    assert read[0] == read[1]


def test_weights_that_are_unpacked_are_read_packed_written_and_read_again() -> None:
    """4.5 bytes a weight, 7.36 ms of them at 4.27 TB/s."""
    sizes = Architecture.of(LLAMA_3_8B)
    every = sizes.linear_parameters
    options: dict[str, Any] = {"num_rows": 1, "slots": 0, "dtype": "bfloat16"}
    packed = decoding_bytes(sizes, quantization="nf4", **options)
    unpacked = decoding_bytes(sizes, quantization="nf4", unpacked_parameters=every, **options)
    assert unpacked - packed == 4 * every
    plain = decoding_bytes(sizes, quantization="none", **options)
    scales = every // 64 + every // 64 // 256 * 4
    assert unpacked - plain == every * (0.5 + 2 + 2 - 2) + scales
    assert unpacking_bytes(every, "bfloat16") == 2.5 * every
    assert (every / 2 + 4 * every) / 4.267e12 == pytest.approx(7.36e-3, abs=1e-5)
