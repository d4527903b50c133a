"""`gistbench speed` on the command line, and training on random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gistbench.cli import main

SIZES = {
    "model_type": "llama",
    "vocab_size": 90,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


@pytest.fixture
def architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration alone, and an empty one to be in."""
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text(json.dumps(SIZES))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path / "tiny"


def run(capfd: pytest.CaptureFixture[str], words: str, *more: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as end:
        main([*words.split(), *map(str, more)])
    captured = capfd.readouterr()
    return end.value.code, captured.out, captured.err


def test_decoding_is_measured_in_two_precisions_with_one_command(
    architecture: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = (
        "speed decode --weights random --device cpu --dtype float32 --quantizations none,nf4 "
        "--batch-sizes 2 --context-tokens 100 --max-positions 256 --new-tokens 9 --rounds 1"
    )
    code, out, err = run(capfd, words, "--base", architecture, "--output", "speed.json")
    assert code in (0, None), err
    record = json.loads(Path("speed.json").read_text())
    assert record["command"].startswith("gistbench")
    sides = [(side["quantization"], side["arm"], side["decoding"]) for side in record["decoding"]]
    assert len(sides) == len(set(sides)) == 8
    # One kernel for both loops on a CPU: 4-bit weights too give the same tokens.
    assert {side["same_rows_share"] for side in record["decoding"]} == {1.0}
    assert "not measured: random weights" in out
    assert "record: speed.json" in out


def test_training_is_measured_with_one_command(
    architecture: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = (
        "speed train --weights random --device cpu --base.dtype float32 --data.context-tokens 40 "
        "--training.optim adamw_torch --training.gradient-checkpointing --steps 2 "
        "--warm-up-steps 1"
    )
    code, out, err = run(capfd, words, "--base.name", architecture)
    assert code in (0, None), err
    (file,) = Path("results/speed").iterdir()
    speed = json.loads(file.read_text())["training"]
    assert len(speed["step_seconds"]) == 2
    assert speed["gradient_checkpointing"] is True
    assert speed["operations"] < speed["operations_with_recompute"] < 2 * speed["operations"]
    assert "seconds a step" in out and "recompute on" in out


TINY = "--weights random --device cpu --dtype float32 --max-positions 256"


def test_savings_are_measured_shown_and_continued_with_one_command(
    architecture: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = f"speed savings {TINY} --context-tokens 100 --contexts 1,2 --output out"
    code, out, err = run(capfd, f"{words} --rounds 2 --parts phases", "--base", architecture)
    assert code in (0, None), err
    assert "read a context" in out and "page: out/savings.html" in out
    assert "phases, none" in err and "phases, nf4" in err
    code, _, err = run(capfd, f"{words} --rounds 2", "--base", architecture)
    assert code in (0, None), err
    assert "phases" not in err and "stored, nf4" in err
    record = json.loads(Path("out/savings.json").read_text())
    assert {"not_measured"} == set(record["precisions"][1]["throughput"])
    page = Path("out/savings.html").read_text()
    assert "Gists and NF4 apart" in page and "no NVIDIA GPU in this run" in page
    code, out, err = run(capfd, f"{words} --rounds 3", "--base", architecture)
    assert code == 2 and "measured with another rounds" in err


def test_long_reads_are_measured_and_shown_with_one_command(
    architecture: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = (
        f"speed lengths {TINY} --lengths 60,120 --chunk-tokens 32 --segment-tokens 50 "
        "--rounds 1 --output out"
    )
    code, out, err = run(capfd, words, "--base", architecture)
    assert code in (0, None), err
    assert "120 tokens" in out and "page: out/lengths.html" in out
    assert Path("out/lengths.html").read_text().count("<svg") == 1


def test_a_training_on_random_weights_needs_no_tokenizer(
    architecture: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = (
        "train --weights random --device cpu --base.dtype float32 --data.context-tokens 40 "
        "--training.optim adamw_torch --training.max-steps 2 --output out"
    )
    code, out, err = run(capfd, words, "--base.name", architecture)
    assert code in (0, None), err
    assert "gist checkpoint: out" in out
    assert "loss and exact answers mean nothing" in Path("out/training.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("speed decode --weights random --arms gits", "did you mean 'gist'"),
        ("speed decode --arms gist", "the arm gist needs --checkpoint"),
        ("speed savings --output x --parts store", "did you mean 'stored'"),
        ("speed savings --output x --weights random --budget-gib 3", "is below the weights alone"),
        ("speed lengths --output x --lengths 5k --weights random", "lengths are whole numbers"),
        ("speed train --steps 0", "--steps 0 is too few; pass 1 or more"),
        ("speed train --max-positions 9", "add --weights random"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence_with_exit_code_2(
    words: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capfd, words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err
