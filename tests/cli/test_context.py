"""Claims about `gistbench compress` and `gistbench ask`: what goes where, and what is refused."""

from __future__ import annotations

import io
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gistbench.cli import main
from gistbench.models.gist_file import read_context

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "What is the pass key mentioned in the text above? The pass key is the number"


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Outcome:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        captured = capfd.readouterr()
        return Outcome(int(end.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def compress(command: Command, tiny_checkpoint: Path) -> Command:
    """`gistbench compress` with the tiny checkpoint."""

    def run(file: object, output: object, *words: object) -> Outcome:
        options = ("--checkpoint", tiny_checkpoint, "--dtype", "float32", "--device", "cpu")
        return command("compress", file, "--output", output, *options, *words)

    return run


@pytest.fixture
def ask(command: Command, tiny_checkpoint: Path) -> Command:
    """`gistbench ask` with the tiny checkpoint."""

    def run(*words: object) -> Outcome:
        return command("ask", *words, "--checkpoint", tiny_checkpoint, "--device", "cpu")

    return run


def refusal(outcome: Outcome) -> str:
    """The sentence of a command that was refused."""
    assert outcome.code == 2
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert outcome.out == ""
    return lines[0].removeprefix("gistbench: ")


def test_answer_alone_is_on_standard_output(compress: Command, ask: Command) -> None:
    Path("a.txt").write_text("The grass is green. The pass key is 48213.\n")
    Path("b.txt").write_text("Here we go. " * 20)
    for name in "ab":
        done = compress(f"{name}.txt", f"{name}.gist.safetensors")
        assert done.code == 0, done.err
        assert done.out == ""
        assert f"{name}.gist.safetensors: " in done.err and "KiB of keys and values" in done.err
    one = ask("a.gist.safetensors", QUESTION, "--max-new-tokens", 6)
    assert one.code == 0, one.err
    assert one.out.count("\n") == 1
    assert "\t" not in one.out
    assert "a.gist.safetensors: " in one.err and "answered in" in one.err
    flagged = ask("a.gist.safetensors", "--question", QUESTION, "--max-new-tokens", 6)
    assert flagged.out == one.out

    several = ask(
        "a.gist.safetensors", "b.gist.safetensors", "--question", QUESTION, "--max-new-tokens", 6
    )
    lines = [line.split("\t") for line in several.out.splitlines()]
    assert lines[0] == ["a.gist.safetensors", one.out.rstrip("\n")]
    assert lines[1][0] == "b.gist.safetensors"
    questions = ("--question", QUESTION, "--question", "Which\ncolour?", "--max-new-tokens", 6)
    twice = [line.split("\t") for line in ask("a.gist.safetensors", *questions).out.splitlines()]
    assert [line[0] for line in twice] == [QUESTION, "Which colour?"]
    assert twice[0][1] == one.out.rstrip("\n")


def test_standard_input_is_compressed_like_a_file(
    compress: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = b"The grass is green."
    Path("a.txt").write_bytes(words)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(words)))
    assert compress("-", "piped.gist.safetensors").code == 0
    assert compress("a.txt", "named.gist.safetensors").code == 0
    piped, named = (
        read_context(Path(f"{name}.gist.safetensors"))[1] for name in ("piped", "named")
    )
    assert piped == named, "the seal among them covers every byte"


def test_longer_than_trained_is_a_note_and_not_a_refusal(compress: Command) -> None:
    Path("long.txt").write_text("7" * 400)
    done = compress("long.txt", "long.gist.safetensors")
    assert done.code == 0
    assert "note: 400 tokens are more than the" in done.err
    Path("short.txt").write_text("7" * 40)
    assert "note:" not in compress("short.txt", "short.gist.safetensors").err


def test_segments_are_noted_as_never_trained_and_chunks_are_not(
    compress: Command, ask: Command
) -> None:
    Path("a.txt").write_text("7" * 100)
    chunked = compress("a.txt", "chunked.gist.safetensors", "--chunk-tokens", 16)
    assert chunked.code == 0 and "note:" not in chunked.err
    assert "100 tokens to 4, 25x" in chunked.err
    done = compress("a.txt", "parts.gist.safetensors", "--segment-tokens", 40)
    assert done.code == 0
    assert "was not trained for; what its answers are worth was not measured" in done.err
    assert "100 tokens to 12, 8.333x" in done.err
    files = ("parts.gist.safetensors", "chunked.gist.safetensors")
    assert ask(*files, "--question", QUESTION, "--max-new-tokens", 4).code == 0
    for flag in ("--chunk-tokens", "--segment-tokens"):
        assert f"{flag} 0 reads nothing" in refusal(compress("a.txt", "b", flag, 0))


def test_existing_output_is_kept_unless_forced(compress: Command) -> None:
    Path("a.txt").write_text("The grass is green.")
    Path("kept").write_text("precious")
    assert "--force" in refusal(compress("a.txt", "kept"))
    assert Path("kept").read_text() == "precious"
    assert compress("a.txt", "kept", "--force").code == 0
    assert Path("kept").read_bytes() != b"precious"
    assert "is a folder" in refusal(compress("a.txt", "."))


def test_a_text_is_never_replaced_by_its_own_gists(compress: Command) -> None:
    Path("a.txt").write_text("The grass is green.")
    assert "is the text itself" in refusal(compress("a.txt", "a.txt", "--force"))
    assert Path("a.txt").read_text() == "The grass is green."


def test_output_that_cannot_be_written_is_one_sentence(compress: Command) -> None:
    Path("a.txt").write_text("The grass is green.")
    assert "cannot write" in refusal(compress("a.txt", "a.txt/inside.gist.safetensors"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no question"),
        (["a.gist.safetensors"], "no question"),
        (["a.gist.safetensors", "b.gist.safetensors"], "no question"),
        (["What?"], "no compressed text to ask"),
        (["--question", "What?"], "no compressed text to ask"),
        (["none.gist.safetensors", "What?"], "none.gist.safetensors does not exist"),
        (["none.gist.safetensors", "long " * 2000], "none.gist.safetensors does not exist"),
        (["notes.txt", "What?"], "another kind of file"),
        (["a", "b", "--max-new-tokens", "0"], "--max-new-tokens 0 answers nothing"),
    ],
)
def test_requests_that_cannot_be_are_one_sentence(
    command: Command, words: list[str], said: str
) -> None:
    Path("notes.txt").write_text("The grass is green. " * 9)
    assert said in refusal(command("ask", *words))


def test_what_is_no_text_is_refused_before_a_model_is_loaded(
    compress: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gistbench.reuse.model as model

    monkeypatch.setattr(model, "load_compressor", _never)
    Path("empty.txt").write_text("\n")
    assert "is empty" in refusal(compress("empty.txt", "out.gist.safetensors"))
    assert "no such file" in refusal(compress("none.txt", "out.gist.safetensors"))
    assert not Path("out.gist.safetensors").exists()


@pytest.mark.parametrize(
    "checkpoint", ["tiny", pytest.param("as it stands", marks=pytest.mark.slow)]
)
def test_what_the_readme_shows_runs(
    checkpoint: str, command: Command, compress: Command, ask: Command
) -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Compress once, ask")[1]
    block = re.search(r"```bash\n(.*?)```", section, re.DOTALL)
    assert block is not None
    shown = [shlex.split(line) for line in block[1].replace("\\\n", "").splitlines()]
    assert [words[1] for words in shown] == ["compress", "compress", "ask", "ask"]
    for name in ("report.txt", "minutes.txt"):
        Path(name).write_text("The grass is green. The pass key is 48213. The sky is blue.\n")
    outcomes = []
    for program, verb, *words in shown:
        assert program == "gistbench"
        if checkpoint == "as it stands":
            outcomes.append(command(verb, *words))
        elif verb == "ask":
            outcomes.append(ask(*words))
        else:
            file, flag, output = words
            assert flag == "--output"
            outcomes.append(compress(file, output))
    assert [outcome.code for outcome in outcomes] == [0] * 4, outcomes
    if checkpoint == "as it stands":
        assert [outcome.out for outcome in outcomes[2:]] == [
            "48213\n",
            "report.gist.safetensors\t48213\nminutes.gist.safetensors\t48213\n",
        ]


def _never(*_: Any, **__: Any) -> None:
    raise AssertionError("a model was loaded")
