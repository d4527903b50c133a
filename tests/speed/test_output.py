"""What was measured is not lost: rounds outlive their process, and no file is overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gistbench.cli import main
from gistbench.config_files import validate
from gistbench.errors import UsageError
from gistbench.speed import decoding
from gistbench.speed.output import read_speed
from gistbench.speed.records import SpeedRecord
from gistbench.speed.run import speed_of_decoding, speed_of_training
from gistbench.speed.settings import DecodeSpeedConfig
from tests.fixtures.tiny_base import tiny_config

Measure = Callable[..., SpeedRecord]


@pytest.fixture
def measure(tiny_base: Path, tmp_path: Path) -> Measure:
    def run(**changes: Any) -> SpeedRecord:
        fields = {
            "base": str(tiny_base),
            "weights": "random",
            "dtype": "float32",
            "batch_sizes": "1,2",
            "context_tokens": 40,
            "new_tokens": 3,
            "rounds": 3,
            **changes,
        }
        wanted = validate(DecodeSpeedConfig, fields, "test")
        return speed_of_decoding(wanted, tmp_path / "d.json", device="cpu", command="x")

    return run


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, measure: Measure) -> Callable[[int], None]:
    """Measures, and is stopped in the middle of a round."""

    def run(calls: int) -> None:
        left = [calls]
        sound = decoding.decoding_loop

        def watched(name: Any) -> Any:
            loop = sound(name)

            def ask(*args: Any, **options: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                return loop(*args, **options)

            return ask

        with monkeypatch.context() as patch:
            patch.setattr(decoding, "decoding_loop", watched)
            with pytest.raises(KeyboardInterrupt):
                measure()

    return run


def test_rounds_are_kept_when_their_process_ends_and_marked_until_all_are_done(
    stopped: Callable[[int], None], measure: Measure, tmp_path: Path
) -> None:
    file = tmp_path / "d.json"
    stopped(4 * 4 + 4 + 2 * 4 + 1)  # one size whole, then a warm-up, two rounds and a bit
    record = read_speed(file)
    assert record.unfinished == (
        "stopped after 5 of 6 rounds, the last with 2 contexts, quantization none"
    )
    assert [len(side.round_seconds) for side in record.decoding] == [3] * 4 + [2] * 4
    assert all(side.seconds_per_step > 0 for side in record.decoding)
    whole = measure()  # the same settings again replace it
    assert whole.unfinished is None
    assert read_speed(file) == whole
    assert [len(side.round_seconds) for side in whole.decoding] == [3] * 8


def test_an_unfinished_measurement_is_not_replaced_by_another(
    stopped: Callable[[int], None], measure: Measure, tmp_path: Path
) -> None:
    stopped(4 + 4)
    before = (tmp_path / "d.json").read_text()
    with pytest.raises(UsageError, match=r"--output .* other settings, unfinished"):
        measure(context_tokens=41)
    assert (tmp_path / "d.json").read_text() == before


def test_a_finished_measurement_is_not_overwritten(
    measure: Measure, tiny_base: Path, tmp_path: Path
) -> None:
    measure(rounds=1, batch_sizes="1")
    before = (tmp_path / "d.json").read_text()
    with pytest.raises(UsageError, match=r"--output .*d\.json holds a finished"):
        measure(rounds=1, batch_sizes="1")
    config = tiny_config(tiny_base, weights="random")
    with pytest.raises(UsageError, match=r"--output .*d\.json holds a finished"):
        speed_of_training(
            config, tmp_path / "d.json", device="cpu", steps=1, warm_up_steps=0, command="x"
        )
    assert (tmp_path / "d.json").read_text() == before


@pytest.mark.parametrize("text", ["notes", '{"schema_version": 1}', ""])
def test_a_file_that_is_no_record_is_not_overwritten(
    measure: Measure, tmp_path: Path, text: str
) -> None:
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(UsageError, match="holds something else than a speed record; name another"):
        measure()
    assert (tmp_path / "d.json").read_text() == text


def test_an_unfinished_record_is_shown_with_what_is_missing(
    stopped: Callable[[int], None],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    stopped(4 + 4)
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["speed", "show", str(tmp_path / "d.json")])
    out = capfd.readouterr().out
    assert end.value.code in (0, None)
    assert "UNFINISHED" in out and "stopped after 1 of 6 rounds" in out
    assert "decoding, sides in turn" in out


def test_who_stops_a_measurement_is_told_how_to_read_it(
    tiny_base: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound = decoding._take_turns

    def one_round(*args: Any) -> Any:
        yield next(sound(*args))
        raise KeyboardInterrupt

    monkeypatch.setattr(decoding, "_take_turns", one_round)
    words = (
        "speed decode --weights random --device cpu --dtype float32 --batch-sizes 1 "
        "--context-tokens 20 --new-tokens 2"
    )
    file = tmp_path / "d.json"
    with pytest.raises(SystemExit) as end:
        main([*words.split(), "--base", str(tiny_base), "--output", str(file)])
    first, *_, last = capfd.readouterr().err.splitlines()
    assert end.value.code == 130
    assert f"`gistbench speed show {file}`" in first and f"`gistbench speed show {file}`" in last
    assert read_speed(file).unfinished is not None


def test_what_is_no_record_is_refused_in_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"rates": 1}))
    for name, said in (("x.json", "is not a SpeedRecord"), ("y.json", "holds no such file")):
        with pytest.raises(SystemExit) as end:
            main(["speed", "show", str(tmp_path / name)])
        out, err = capfd.readouterr()
        assert (end.value.code, out, len(err.splitlines())) == (2, "", 1)
        assert said in err and "`gistbench speed decode` wrote" in err
        assert "gistbench run" not in err
