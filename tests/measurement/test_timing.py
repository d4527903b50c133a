"""The clock waits for the device."""

from __future__ import annotations

import pytest

from gistbench.measurement.timing import synchronize, timed


def test_the_device_is_waited_for_before_and_after(machine):
    cuda = machine().cuda
    with timed("cuda:0") as watch:
        assert cuda.synchronized == ["cuda:0"]
    assert cuda.synchronized == ["cuda:0", "cuda:0"]
    assert watch.seconds >= 0


def test_the_cpu_needs_no_waiting(machine):
    cuda = machine().cuda
    synchronize("cpu")
    assert cuda.synchronized == []


def test_seconds_do_not_exist_before_the_block_ends():
    with timed("cpu") as watch, pytest.raises(RuntimeError, match="no seconds"):
        _ = watch.seconds


def test_a_block_that_raises_has_no_seconds():
    with pytest.raises(KeyError), timed("cpu") as watch:
        raise KeyError
    with pytest.raises(RuntimeError):
        _ = watch.seconds
