"""Claims about how numbers are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gistbench import metrics
from gistbench.metrics import (
    format_bytes,
    format_count,
    format_percent,
    format_rate,
    format_ratio,
    format_seconds,
)


@given(st.floats(0.0, 1.0, exclude_min=True, exclude_max=True))
def test_a_rate_is_never_rounded_up_to_all_or_down_to_none(rate: float) -> None:
    shown = format_percent(rate)
    number = float(shown.removesuffix(" %"))
    if rate <= 0.9999:
        assert number < 100
    assert number > 0


def test_all_and_none_are_shown_as_such() -> None:
    assert (format_percent(1.0), format_percent(0.0)) == ("100.0 %", "0.0 %")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0.0 KiB"), (2048, "2.0 KiB"), (2**20, "1.00 MiB"), (5 * 2**30, "5.00 GiB")],
)
def test_bytes_have_binary_units(value: int, shown: str) -> None:
    assert format_bytes(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0000012, "1 µs"),
        (0.0123, "12.3 ms"),
        (1.234, "1.23 s"),
        (119.9, "120 s"),
        (180, "3.0 min"),
    ],
)
def test_seconds_keep_three_digits(value: float, shown: str) -> None:
    assert format_seconds(value) == shown


def test_counts_rates_and_ratios() -> None:
    assert format_count(1064386560) == "1,064,386,560"
    assert format_rate(1234.5) == "1,234 tok/s"
    assert format_rate(12.34) == "12.3 tok/s"
    assert format_ratio(492.5) == "492.5x"


def test_compression_is_counted_from_tokens() -> None:
    assert metrics.compression_ratio(4925, 10) == 492.5
