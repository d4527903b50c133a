"""What the documentation shows in a console is what happens: run literally, at toy size."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.documented import LEFT_OUT, ROOT, blocks, files, pages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PAGES = [page for page in pages() if any(block.language == "console" for block in blocks(page))]

ENVIRONMENT = {
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    "COLUMNS": "96",
    "PYTHONUNBUFFERED": "1",  # both outputs in the order of a terminal
    "HF_HUB_OFFLINE": "1",
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_read_literally_does_what_it_shows(page: str, tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    written = {place: (name, text) for place, name, text in files(page)}
    consoles = {block.place: block for block in blocks(page) if block.language == "console"}
    for place in sorted({*written, *consoles}):
        if place in written:
            name, text = written[place]
            (tmp_path / name).write_text(text, encoding="utf-8")
            continue
        for command, output in consoles[place].shown:
            assert_shown(output, run(command, tmp_path))


def run(command: str, folder: Path) -> str:
    """Both outputs of a command, which ends well."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def assert_shown(documented: str, output: str) -> None:
    """Every passage between lines left out stands in the output, in this order; numbers apart."""
    passages = re.split(rf"(?m)^{re.escape(LEFT_OUT)}$", documented)
    rest = words(output)
    for passage in filter(None, map(words, passages)):
        before, found, rest = rest.partition(passage)
        assert found, f"not shown: {passage}\nin what follows: {before[:2000]}"


def words(text: str) -> str:
    """A text with every number, time, border and width made alike."""
    text = re.sub(r"[─-╿]+", " ", text)
    text = re.sub(r"\d[\d,.]*", "0", text)
    text = re.sub(r"\b0 (ms|s|µs|min)\b", "0 s", text)
    return " ".join(text.split())


def test_what_differs_is_noticed() -> None:
    assert_shown("exact 61.0 %\n...\nscore 5", "exact 58.3 %\nmore\nscore 12\n")
    with pytest.raises(AssertionError):
        assert_shown("exact 61.0 %\n...\nscore 5", "score 5\nexact 58.3 %\n")
    with pytest.raises(AssertionError):
        assert_shown("verdict PASS", "verdict FAIL")
