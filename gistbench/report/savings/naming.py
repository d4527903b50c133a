"""What both pages call arms and precisions."""

from __future__ import annotations

from gistbench.speed.savings_records import SavingsRecord

FULL_GIST = ("full context", "gists")
"""Headings of the two arms, in the order of `corners.ARMS`."""


def precision_name(quantization: str, dtype: str) -> str:
    """As people call it."""
    return "NF4" if quantization == "nf4" else {"bfloat16": "bf16", "float32": "fp32"}[dtype]


def names_of(record: SavingsRecord) -> dict[str, str]:
    """Of every precision measured."""
    return {
        p.quantization: precision_name(p.quantization, record.base.dtype) for p in record.precisions
    }
