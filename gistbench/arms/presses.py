"""The cache compressions of NVIDIA's kvpress that are arms. Imports neither kvpress nor torch.

A new one is one line here. All are used as kvpress sets them by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PRESSABLE_MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
"""Those supported here that kvpress supports too. Of Gemma 3 it compresses only some layers."""


@dataclass(frozen=True, slots=True)
class Press:
    """What is known of a compression without loading it.

    Attributes:
        kind: Its class in kvpress.
        keeps: Which slots stay, as the end of a sentence.
        always_kept: Slots that its default settings keep whatever they hold: the smallest budget
            under which it is still the method. With that budget it chooses nothing.
    """

    kind: str
    keeps: str
    always_kept: int = 1


PRESSES: Mapping[str, Press] = {
    # window_size 64 (Li et al., 2024, arXiv 2404.14469)
    "kv-snapkv": Press(
        "SnapKVPress", "the last 64, and those that these 64 attended to most (SnapKV)", 64
    ),
    # n_sink 4 (Xiao et al., 2023, arXiv 2309.17453)
    "kv-streaming-llm": Press("StreamingLLMPress", "the first 4 and the last (StreamingLLM)", 4),
    # n_sink 4 (Devoto et al., 2025, arXiv 2510.00636)
    "kv-expected-attention": Press(
        "ExpectedAttentionPress",
        "the first 4, and those that later queries are expected to attend to most",
        4,
    ),
    # Devoto et al., 2024, arXiv 2406.11430
    "kv-knorm": Press("KnormPress", "those with the smallest keys"),
}
