"""A real browser for the pages: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright import sync_api

from gistbench.report import render
from tests.fixtures.synthetic_run import SyntheticRun

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def find_chromium() -> str | None:
    """What GISTBENCH_CHROMIUM names, else the first one on the path."""
    named = os.environ.get("GISTBENCH_CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Visit:
    """An open page, and what it did that it should not do."""

    page: sync_api.Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def browser() -> Iterator[sync_api.Browser]:
    """One browser for all tests of a process."""
    executable = find_chromium()
    if executable is None:
        pytest.skip("no chromium on the path (CONTRIBUTING.md says how to have one)")
    with sync_api.sync_playwright() as playwright:
        # A container gives Chromium no sandbox of its own and little shared memory.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: sync_api.Browser) -> Iterator[Callable[..., Visit]]:
    """Open a file; at the end nothing may have been complained of or asked from elsewhere."""
    visits: list[Visit] = []

    def open_page(path: Path, **options: object) -> Visit:
        context = browser.new_context(**{"viewport": DESKTOP, **options})
        found = Visit(context.new_page())
        visits.append(found)
        found.page.on("console", lambda message: found.complaints.append(message.text))
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.on("dialog", lambda dialog: found.complaints.append(dialog.message))
        found.page.goto(path.as_uri())
        return found

    yield open_page
    for found in visits:
        assert found.complaints == []
        assert {url.split(":")[0] for url in found.requests[1:]} <= {"data"}
        assert found.requests[0].startswith("file:")
        found.page.context.close()


@pytest.fixture(scope="session")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[SyntheticRun], Path]:
    """Render a run once; a second call gives the same page."""
    made: dict[int, Path] = {}

    def rendered(run: SyntheticRun) -> Path:
        if id(run) not in made:
            made[id(run)] = render(run.write(tmp_path_factory.mktemp("page"))).html
        return made[id(run)]

    return rendered
