"""The site holds every page, and nothing from the network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from docs.tools import site


def navigated(entries: list[object]) -> list[str]:
    """Files of the navigation, in its order."""
    found: list[str] = []
    for entry in entries:
        values = list(entry.values()) if isinstance(entry, dict) else [entry]
        for value in values:
            found += navigated(value) if isinstance(value, list) else [str(value)]
    return found


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page(tmp_path: Path) -> None:
    site.stage(tmp_path)
    entries = navigated(yaml.safe_load(site.CONFIG.read_text(encoding="utf-8"))["nav"])
    assert len(entries) == len(set(entries))
    assert not [entry for entry in entries if not (tmp_path / entry).is_file()]
    left_out = {site.place_of(page).as_posix() for page in site.pages()} - set(entries)
    assert not left_out, f"add these to nav in {site.CONFIG.name}"


def test_the_site_builds_strictly_and_loads_nothing_from_the_network() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.tools.site"], cwd=site.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((site.ROOT / "site").rglob("*.html"))
    assert len(pages) > len(site.pages())
    for page in pages:
        if "results" in page.parts:
            continue  # a scorecard; tests/report looks at it
        loaded = (
            r"<(?:script|img|iframe)[^>]+src=\"?(https?:[^\" ]+)|<link[^>]+href=\"?(https?:[^\" ]+)"
        )
        found = re.findall(loaded, page.read_text(encoding="utf-8"))
        assert not found, page


def test_a_link_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(site.BrokenLinkError, match=r"docs/ci.md links to nowhere.md"):
        site.relink("[a](nowhere.md)", Path("docs/ci.md"))


def test_links_out_of_the_documentation_lead_to_copies() -> None:
    text, found = site.relink(
        "[a](../CONCEPT.md#the-idea) [b](../gistbench/gate/policy.yaml) [c](https://x.y/z)\n"
        "```\n[d](nowhere.md)\n```\n[e](../results/published/ladder)",
        Path("docs/ci.md"),
    )
    assert text == (
        "[a](repository/CONCEPT.md#the-idea) [b](repository/gistbench/gate/policy.yaml.md) "
        "[c](https://x.y/z)\n```\n[d](nowhere.md)\n```\n"
        "[e](repository/results/published/ladder/scorecard.html)"
    )
    assert len(found) == 3
