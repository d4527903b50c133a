"""Python that the documentation shows runs as it stands."""

from __future__ import annotations

from typing import Any

import pytest

from tests.docs.documented import ROOT, blocks

ASSETS = ROOT / "tests/assets/passkey-tiny"


def shown(page: str) -> str:
    """The page's one block of Python."""
    (code,) = (block.text for block in blocks(page) if block.language == "python")
    return code


def test_a_checkpoint_loads_with_peft_alone() -> None:
    folders = {"BASE_FOLDER": str(ASSETS / "base"), "CHECKPOINT_FOLDER": str(ASSETS / "checkpoint")}
    found: dict[str, Any] = {**folders}
    exec(shown("docs/how-to/peft.md"), found)
    rows = found["model"].get_input_embeddings().weight.shape[0]
    assert rows == found["base"].config.vocab_size
    assert found["num_gists"] == 6


def test_the_example_of_the_statistics_page_prints_what_it_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (ROOT / "docs/reference/statistics.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    exec(code, {})
    assert capsys.readouterr().out.strip() == code.splitlines()[-1].removeprefix("# ")
