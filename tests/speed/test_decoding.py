"""Every side of a decoding measurement takes its turns, and its floor is counted, not tuned."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from gistbench.config_files import validate
from gistbench.errors import UsageError
from gistbench.records import NotMeasured
from gistbench.speed import decoding
from gistbench.speed.records import SpeedRecord
from gistbench.speed.run import speed_of_decoding
from gistbench.speed.settings import DecodeSpeedConfig
from gistbench.speed.table import tables
from gistbench.storage import read_json

NEW_TOKENS, QUESTION, CONTEXT, GISTS = 6, 5, 40, 3


@pytest.fixture
def settings(tiny_base: Path) -> Callable[..., DecodeSpeedConfig]:
    def make(**changes: Any) -> DecodeSpeedConfig:
        fields = {
            "base": str(tiny_base),
            "weights": "random",
            "dtype": "float32",
            "batch_sizes": "1,3",
            "context_tokens": CONTEXT,
            "num_gists": GISTS,
            "question_tokens": QUESTION,
            "new_tokens": NEW_TOKENS,
            "rounds": 2,
            **changes,
        }
        return validate(DecodeSpeedConfig, fields, "test")

    return make


def measure(settings: DecodeSpeedConfig, folder: Path) -> SpeedRecord:
    file = folder / "speed.json"
    record = speed_of_decoding(settings, file, device="cpu", command="gistbench speed decode")
    assert read_json(file, SpeedRecord) == record
    return record


def shown(record: SpeedRecord) -> str:
    console = Console(file=io.StringIO(), width=110)
    for table in tables(record):
        console.print(table)
    return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def test_all_sides_are_measured_beside_their_floor(
    settings: Callable[..., DecodeSpeedConfig], tmp_path: Path
) -> None:
    record = measure(settings(), tmp_path)
    sides = [(s.batch_size, s.arm, s.decoding) for s in record.decoding]
    assert sides == [
        (size, arm, loop)
        for size in (1, 3)
        for arm in ("full", "gist")
        for loop in ("static", "eager")
    ]
    for side in record.decoding:
        assert side.cache_slots == (CONTEXT if side.arm == "full" else GISTS)
        assert side.cache_bytes == side.batch_size * side.cache_slots * 2 * 2 * 2 * 16 * 4
        assert (len(side.round_seconds), side.decode_steps) == (2, NEW_TOKENS)
        assert side.tokens_per_second == pytest.approx(side.batch_size / side.seconds_per_step)
        assert side.same_rows_share == 1.0
        floor = side.floor_bytes_per_step / record.rates.copy_bytes_per_second
        assert side.share_of_floor == pytest.approx(floor / side.seconds_per_step)
    by_side = dict(zip(sides, record.decoding, strict=True))
    full, gist = by_side[3, "full", "static"], by_side[3, "gist", "static"]
    rows = GISTS * 64 * 4  # the gists' own rows of the output matrix
    more = 3 * (CONTEXT - GISTS) * 2 * 2 * 2 * 16 * 4
    assert full.floor_bytes_per_step - gist.floor_bytes_per_step == more - rows
    assert "random weights" in record.accuracy.not_measured
    assert record.settings["weights"] == "random"
    text = shown(record)
    assert "accuracy" in text and "not measured: random weights" in text
    assert text.count("static") == text.count("eager") - 1 == 4  # the caption names one more


def test_sides_take_turns_in_every_round(
    settings: Callable[..., DecodeSpeedConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sound = decoding.decoding_loop

    def watched(name: Any) -> Any:
        loop = sound(name)

        def ask(model: Any, context: Any, *args: Any, **options: Any) -> Any:
            order.append(f"{context.num_slots} {name}")
            return loop(model, context, *args, **options)

        return ask

    monkeypatch.setattr(decoding, "decoding_loop", watched)
    measure(settings(batch_sizes=2), tmp_path)
    turn = ["40 static", "40 eager", "3 static", "3 eager"]
    assert order == [*reversed(turn), *turn, *reversed(turn)]


def test_a_real_checkpoint_is_measured_as_a_run_would_load_it(
    settings: Callable[..., DecodeSpeedConfig], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    wanted = settings(
        weights="real", base=None, checkpoint=str(tiny_checkpoint), batch_sizes=2, decodings="eager"
    )
    record = measure(wanted, tmp_path)
    assert [side.cache_slots for side in record.decoding] == [CONTEXT, 4]
    assert "no task was answered" in record.accuracy.not_measured
    assert all(side.same_rows_share == 1.0 for side in record.decoding)


def test_without_the_eager_loop_nothing_is_said_of_equal_tokens(
    settings: Callable[..., DecodeSpeedConfig], tmp_path: Path
) -> None:
    record = measure(settings(decodings="static", batch_sizes=1, arms="gist"), tmp_path)
    (side,) = record.decoding
    assert isinstance(side.same_rows_share, NotMeasured)
    assert "not measured" in shown(record)


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, torch.AcceleratorError])
def test_what_does_not_fit_is_skipped_with_its_reason_and_the_rest_goes_on(
    settings: Callable[..., DecodeSpeedConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[RuntimeError],
) -> None:
    sound = decoding._contexts

    def too_many(settings: Any, arm: Any, batch_size: int) -> Any:
        if batch_size > 1:
            raise kind("CUDA error: out of memory")
        return sound(settings, arm, batch_size)

    monkeypatch.setattr(decoding, "_contexts", too_many)
    record = measure(settings(batch_sizes="2,1"), tmp_path)
    assert {side.batch_size for side in record.decoding} == {1}
    assert [side.batch_size for side in record.skipped] == [2] * 4
    assert "2 contexts of every side at once do not fit" in shown(record)


def test_windows_leave_no_floor_to_count(tmp_path: Path) -> None:
    config = (
        '{"model_type": "mistral", "vocab_size": 99, "hidden_size": 32, "intermediate_size": 48,'
        '"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,'
        '"sliding_window": 16}'
    )
    (tmp_path / "config.json").write_text(config)
    wanted = DecodeSpeedConfig(
        base=str(tmp_path),
        weights="random",
        dtype="float32",
        batch_sizes=(1,),
        context_tokens=30,
        new_tokens=2,
        rounds=1,
    )
    record = measure(wanted, tmp_path)
    for side in record.decoding:
        assert isinstance(side.share_of_floor, NotMeasured)
        assert "see 16 tokens of 59" in side.share_of_floor.not_measured
        assert side.same_rows_share == 1.0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"arms": "full,gitst"}, "'gitst' cannot be measured, did you mean 'gist'"),
        ({"decodings": "fast"}, "'fast' cannot be measured"),
        ({"batch_sizes": "1,0"}, "batch sizes are whole numbers from 1 on"),
        ({"batch_sizes": ""}, "nothing is named"),
        ({"checkpoint": "x"}, "a checkpoint does not go on random weights"),
        ({"weights": "real"}, "the arm gist needs --checkpoint"),
        ({"weights": "real", "arms": "full", "max_positions": 9}, "add --weights random"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    settings: Callable[..., DecodeSpeedConfig], fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        settings(**fields)


def test_positions_may_be_lengthened_and_must_suffice(
    settings: Callable[..., DecodeSpeedConfig], tmp_path: Path
) -> None:
    long = {"context_tokens": 1100, "batch_sizes": 1, "rounds": 1, "arms": "gist"}
    with pytest.raises(UsageError, match=r"exceed the 1,024 positions .*--max-positions"):
        measure(settings(**long), tmp_path)
    record = measure(settings(**long, max_positions=2048), tmp_path)
    assert record.decoding[0].context_tokens == 1100
