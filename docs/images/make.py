"""Takes the README's pictures anew from the published runs: `python docs/images/make.py`.

Needs Chromium, as the tests in tests/report/browser do, and about a minute.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from gistbench.report import render

HERE = Path(__file__).parent
PUBLISHED = HERE.parents[1] / "results" / "published"
MOST_BYTES = 200_000

CHOOSE = """() => {
  const { arm, right } = document.getElementById("filters").elements;
  arm.value = "gist";
  right.value = "0";
  right.dispatchEvent(new Event("change", { bubbles: true }));
  document.querySelector(".sample:not([hidden])").open = true;
  document.querySelector("#samples").scrollIntoView();
}"""

PICTURES = {  # name -> run, width, height, colours, what to do first
    "scorecard-desktop": ("smollm2-135m-gist-10", 1280, 860, "light", None),
    "scorecard-dark": ("ladder", 1280, 860, "dark", None),
    "scorecard-phone": ("smollm2-135m-gist-10", 390, 844, "light", None),
    "samples": ("smollm2-135m-gist-10", 1280, 800, "light", CHOOSE),
}


def main() -> None:
    """Render each run once beside its records, and look at the pages."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        pages = {}
        for name, (run, width, height, scheme, first) in PICTURES.items():
            if run not in pages:
                copy = shutil.copytree(PUBLISHED / run, Path(folder) / run)
                pages[run] = render(copy).html
            size = {"width": width, "height": height}
            page = browser.new_page(viewport=size, color_scheme=scheme)
            page.goto(pages[run].as_uri())
            if first:
                page.evaluate(first)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("P", palette=1, colors=128)
            picture.save(HERE / f"{name}.png", optimize=True)
            taken = (HERE / f"{name}.png").stat().st_size
            assert taken < MOST_BYTES, f"{name}.png has {taken:,} bytes"
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
