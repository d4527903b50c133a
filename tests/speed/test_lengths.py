"""Long contexts are read in every way in turn, and each way keeps what it should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gistbench.config_files import validate
from gistbench.errors import UsageError
from gistbench.models.reading_cost import ReadingCost
from gistbench.records import NotMeasured
from gistbench.speed import lengths
from gistbench.speed.lengths import measure_lengths
from gistbench.speed.savings_records import LengthsRecord
from gistbench.speed.savings_settings import LengthsConfig
from gistbench.storage import read_json

GISTS = 3


@pytest.fixture
def settings(tiny_base: Path) -> Callable[..., LengthsConfig]:
    def make(**changes: Any) -> LengthsConfig:
        fields = {
            "base": str(tiny_base),
            "weights": "random",
            "dtype": "float32",
            "num_gists": GISTS,
            "lengths": "90,40",
            "chunk_tokens": 16,
            "segment_tokens": 32,
            "rounds": 2,
            **changes,
        }
        return validate(LengthsConfig, fields, "test")

    return make


def measure(settings: LengthsConfig, folder: Path) -> LengthsRecord:
    record = measure_lengths(settings, folder, device="cpu", command="gistbench")
    assert read_json(folder / "lengths.json", LengthsRecord) == record
    return record


def test_every_length_is_read_in_every_way(
    settings: Callable[..., LengthsConfig], tmp_path: Path
) -> None:
    (found,) = measure(settings(), tmp_path).precisions
    assert [(r.context_tokens, r.way, r.kept_slots) for r in found.reads] == [
        (40, "once", GISTS),
        (40, "chunked", GISTS),
        (40, "segments", 2 * GISTS),
        (90, "once", GISTS),
        (90, "chunked", GISTS),
        (90, "segments", 3 * GISTS),
    ]
    for read in found.reads:
        assert len(read.round_seconds) == 2
        assert isinstance(read.peak_bytes, NotMeasured)


def test_ways_take_turns_and_peaks_are_the_highest_of_the_rounds(
    settings: Callable[..., LengthsConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sound = lengths.measured_read

    def watched(*args: Any, **options: Any) -> Any:
        way = "segments" if options["segment_tokens"] else "once"
        order.append("chunked" if options["chunk_tokens"] else way)
        cache, cost = sound(*args, **options)
        return cache, ReadingCost(cost.num_tokens, cost.seconds, 100 + len(order), 50)

    monkeypatch.setattr(lengths, "measured_read", watched)
    (found,) = measure(settings(lengths=40), tmp_path).precisions
    turn = ["once", "chunked", "segments"]
    assert order == [*reversed(turn), *turn, *reversed(turn)]
    assert [r.peak_bytes for r in found.reads] == [109, 108, 107]
    assert {r.needed_bytes for r in found.reads} == {50}


def test_what_does_not_fit_is_skipped_and_the_rest_goes_on(
    settings: Callable[..., LengthsConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = lengths.measured_read

    def too_long(model: Any, context: Any, **options: Any) -> Any:
        if len(context) > 50 and not (options["chunk_tokens"] or options["segment_tokens"]):
            raise torch.OutOfMemoryError("out of memory")
        return sound(model, context, **options)

    monkeypatch.setattr(lengths, "measured_read", too_long)
    (found,) = measure(settings(), tmp_path).precisions
    (skipped,) = found.skipped
    assert (skipped.context_tokens, skipped.way) == (90, "once")
    assert "90 tokens read once do not fit" in skipped.reason.not_measured
    assert len(found.reads) == 5


def test_gists_of_every_segment_need_positions_too(
    settings: Callable[..., LengthsConfig], tmp_path: Path
) -> None:
    long = {"lengths": "1000", "rounds": 1, "segment_tokens": 100}
    with pytest.raises(UsageError, match=r"1,030 tokens .*1,024 .*lower --lengths or pass --max"):
        measure(settings(**long), tmp_path)
    measure(settings(**long, ways="once,chunked"), tmp_path)
    with pytest.raises(UsageError, match="lengths are whole numbers from 1 on"):
        settings(lengths="5k")


def test_a_record_that_is_there_is_kept(
    settings: Callable[..., LengthsConfig], tmp_path: Path
) -> None:
    before = measure(settings(lengths="40", rounds=1), tmp_path)
    with pytest.raises(UsageError, match="is there already; name another --output"):
        measure(settings(lengths="50", rounds=1), tmp_path)
    assert read_json(tmp_path / "lengths.json", LengthsRecord) == before
