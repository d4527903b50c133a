"""The committed reference is what the code gives."""

from __future__ import annotations

import pytest

from docs.tools.reference import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_page_is_what_the_code_gives(name: str) -> None:
    committed = (FOLDER / name).read_text(encoding="utf-8")
    assert committed == PAGES[name](), "run `make reference`, and read what changed"


def test_no_page_of_the_reference_is_written_by_hand() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(PAGES)
