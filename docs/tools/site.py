"""The site: ``python -m docs.tools.site`` builds it from ``docs/`` into ``site/``.

The pages are written for a code host, where links reach any file of the repository. A site has only
what it is given, so the pages are copied to ``.site/`` first, together with every file that one of
them links to, and the links are turned to the copies. A link to nothing is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGE = ROOT / ".site"
CONFIG = ROOT / "mkdocs.yml"

OUTSIDE = "repository"
"""Folder of the site for files that lie outside ``docs/``."""

PROJECT = ("CONCEPT.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/published/README.md")
"""Pages outside ``docs/`` that are in the site's navigation."""

STYLE = Path("docs/site.css")

LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml"}
"""Files that are shown as a page of code."""

_FENCE = re.compile(r"^(```|~~~)[\s\S]*?^\1", re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")


class BrokenLinkError(Exception):
    """A page links to a file that the repository does not have."""


def main() -> None:
    """Build the site."""
    try:
        stage(STAGE)
    except BrokenLinkError as error:
        sys.exit(f"docs: {error}")
    build = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", str(CONFIG)]
    done = subprocess.run(build, cwd=ROOT)
    sys.exit(done.returncode)


def pages() -> list[Path]:
    """The pages of ``docs/``, relative to the repository."""
    return sorted(path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md"))


def stage(folder: Path) -> None:
    """Copy every page, and every file that is linked to, with links that hold among the copies.

    Args:
        folder: Made anew.

    Raises:
        BrokenLinkError: Names the page and its link.
    """
    shutil.rmtree(folder, ignore_errors=True)
    waiting = [*pages(), *map(Path, PROJECT), STYLE]
    seen = set(waiting)
    while waiting:
        file = waiting.pop()
        target = folder / place_of(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            text, found = relink((ROOT / file).read_text(encoding="utf-8"), file)
            target.write_text(text, encoding="utf-8")
            waiting += sorted(found - seen)
            seen |= found
        elif file.suffix in LANGUAGES:
            code = (ROOT / file).read_text(encoding="utf-8").rstrip()
            block = f"# {file}\n\n````{LANGUAGES[file.suffix]}\n{code}\n````\n"
            target.write_text(block, encoding="utf-8")
        else:
            shutil.copy(ROOT / file, target)


def place_of(file: Path) -> Path:
    """Where a file of the repository lies on the site."""
    inside = file.parts[0] == "docs"
    place = Path(*file.parts[1:]) if inside else OUTSIDE / file
    return place.with_name(f"{place.name}.md") if place.suffix in LANGUAGES else place


def relink(text: str, file: Path) -> tuple[str, set[Path]]:
    """Turn a page's links to where the linked files will lie.

    Args:
        text: Of the page.
        file: The page, relative to the repository.

    Returns:
        The text, and the files that it links to.

    Raises:
        BrokenLinkError: A link leads to nothing.
    """
    found: set[Path] = set()

    def turned(link: re.Match[str]) -> str:
        linked = linked_file(file, link[1])
        found.add(linked)
        here = place_of(file).parent
        return Path(os.path.relpath(place_of(linked), here)).as_posix() + (link[2] or "")

    parts, start = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(turned, text[start : fence.start()]), fence[0]]
        start = fence.end()
    parts.append(_LINK.sub(turned, text[start:]))
    return "".join(parts), found


def linked_file(page: Path, link: str) -> Path:
    """The file that a link means; of a folder its README, or the scorecard of a run.

    Raises:
        BrokenLinkError: There is no such file.
    """
    path = Path(os.path.normpath(page.parent / link))
    choices = (path, path / "README.md", path / "scorecard.html")
    for choice in choices:
        if (ROOT / choice).is_file() and choice.parts[0] != "..":
            return choice
    raise BrokenLinkError(f"{page} links to {link}, which is not there; mend the link")


if __name__ == "__main__":
    main()
