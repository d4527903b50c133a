"""One table of everything gistbench reports: metric -> unit, direction, formatter.

Reports look names up here instead of formatting by hand, so a unit is written once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower", "none"]

GIB = 2**30
MIB = 2**20


def format_bytes(value: float) -> str:
    """Bytes as a person reads them: GiB from a tenth of one, MiB from a tenth of one, else KiB."""
    if abs(value) >= GIB / 10:
        return f"{value / GIB:.2f} GiB"
    if abs(value) >= MIB / 10:
        return f"{value / MIB:.2f} MiB"
    return f"{value / 1024:.1f} KiB"


def format_percent(value: float) -> str:
    """A rate from 0 to 1 as a percentage with one decimal, never rounded up to 100 % or to 0 %."""
    percent = 100 * value
    if 99.95 <= percent < 100:
        return f"{percent:.2f} %"
    if 0 < percent < 0.05:
        return f"{percent:.2g} %"
    return f"{percent:.1f} %"


def format_seconds(value: float) -> str:
    """Seconds with a unit that keeps three significant digits readable."""
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    if value < 120:
        return f"{value:.3g} s"
    return f"{value / 60:.1f} min"


def format_ratio(value: float) -> str:
    """A ratio as a multiple."""
    return f"{value:.4g}x"


def format_rate(value: float) -> str:
    """A speed in tokens per second."""
    return f"{value:,.0f} tok/s" if value >= 100 else f"{value:.1f} tok/s"


def format_count(value: float) -> str:
    """A whole number with thousands separated."""
    return f"{value:,.0f}"


@dataclass(frozen=True, slots=True)
class Metric:
    """How one reported quantity is named and shown."""

    name: str
    label: str
    unit: str
    direction: Direction
    format: Callable[[float], str]


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("exact_match", "strict exact match", "share", "higher", format_percent),
        Metric("contains", "answer contained", "share", "higher", format_percent),
        Metric("digit_accuracy", "digits right", "share", "higher", format_percent),
        Metric("balanced_accuracy", "balanced accuracy", "share", "higher", format_percent),
        Metric(
            "none_on_absent", '"none" where no key is hidden', "share", "higher", format_percent
        ),
        Metric(
            "key_on_absent", "a key stated where none is hidden", "share", "lower", format_percent
        ),
        Metric("none_on_present", '"none" where a key is hidden', "share", "lower", format_percent),
        Metric("compression_ratio", "compression", "ratio", "higher", format_ratio),
        Metric("cache_bytes", "key/value cache per context", "bytes", "lower", format_bytes),
        Metric("cache_tokens", "cache slots per layer", "tokens", "lower", format_count),
        Metric(
            "compress_seconds", "read the context (prefill)", "seconds", "lower", format_seconds
        ),
        Metric(
            "first_token_seconds", "question to first token", "seconds", "lower", format_seconds
        ),
        Metric(
            "decode_tokens_per_second",
            "decode speed of each answer",
            "tok/s",
            "higher",
            format_rate,
        ),
        Metric("throughput", "throughput, contexts together", "tok/s", "higher", format_rate),
        Metric("torch_allocated_bytes", "allocated by torch", "bytes", "lower", format_bytes),
        Metric("torch_reserved_bytes", "reserved by torch", "bytes", "lower", format_bytes),
        Metric("device_used_bytes", "device memory (NVML)", "bytes", "lower", format_bytes),
        Metric("process_used_bytes", "process memory (NVML)", "bytes", "lower", format_bytes),
        Metric("resident_bytes", "host memory (RSS)", "bytes", "lower", format_bytes),
    )
}


def compression_ratio(context_tokens: int, num_gists: int) -> float:
    """Original context tokens over gist tokens, for one sample. Defined here and nowhere else.

    Raises:
        ValueError: A count is not positive.
    """
    if context_tokens <= 0 or num_gists <= 0:
        raise ValueError(
            f"compression needs tokens on both sides, got {context_tokens} : {num_gists}"
        )
    return context_tokens / num_gists
