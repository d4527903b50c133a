"""The pages of ``docs/reference/``, written from the code by ``python -m docs.tools.reference``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from docs.tools.arms import arms_page
from docs.tools.commands import commands_page
from docs.tools.configuration import configuration_page
from docs.tools.criteria import criteria_page
from docs.tools.presets import presets_page
from docs.tools.records import records_page
from docs.tools.statistics import statistics_page
from docs.tools.tasks import tasks_page

FOLDER = Path(__file__).resolve().parents[1] / "reference"

PAGES: Mapping[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "configuration.md": configuration_page,
    "presets.md": presets_page,
    "tasks.md": tasks_page,
    "arms.md": arms_page,
    "criteria.md": criteria_page,
    "records.md": records_page,
    "statistics.md": statistics_page,
}
"""File -> what writes its text."""


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, write in PAGES.items():
        (FOLDER / name).write_text(write(), encoding="utf-8")
        print(FOLDER / name)


if __name__ == "__main__":
    main()
