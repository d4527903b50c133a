"""`gistbench compare`: run directories in, one page, one record and one Markdown file out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from gistbench.report.compare.accuracy import accuracy_tables
from gistbench.report.compare.costs import cost_tables
from gistbench.report.compare.differing import alike, differing
from gistbench.report.compare.flips import flip_groups
from gistbench.report.compare.pages import compare_html, compare_markdown
from gistbench.report.compare.pairing import arm_pairs, run_pairs
from gistbench.report.compare.records import Comparison, RunPair
from gistbench.report.compare.sides import cells, load_sides
from gistbench.report.compare.standing import (
    invalid,
    notes,
    run_checks,
    run_titles,
    standing_table,
)
from gistbench.report.page.written import Pages, write_pages

MOST_HEADLINES = 8


def compare(run_dirs: Sequence[Path], arms: Sequence[str] = ()) -> Comparison:
    """Compare runs with the first of them.

    Args:
        run_dirs: What `gistbench run` or `gistbench merge` wrote, the reference first.
        arms: Arms to compare: ``ARM``, or ``ARM:ARM`` with the reference's last. All that the
            reference shares with another run, if none is named.

    Raises:
        UsageError: The runs cannot be read, or there is nothing to compare.
    """
    sides = load_sides(run_dirs)
    labels = cells(sides)
    pairs = arm_pairs(sides, arms)
    compared = run_pairs(sides, pairs, labels)
    accuracy = accuracy_tables(sides, pairs, compared, labels)
    costs, rival_costs = cost_tables(sides, pairs)
    others = [side.label for side in sides[1:]]
    words = ["gistbench compare", *(shlex.quote(str(side.folder)) for side in sides)]
    if arms:
        words.append(f"--arms {shlex.quote(','.join(arms))}")
    return Comparison(
        title=f"{', '.join(others)} against {sides[0].label}",
        command=" ".join(words),
        runs=run_titles(sides),
        invalid=invalid(sides),
        headlines=_headlines(compared),
        notes=notes(sides),
        alike=alike(sides),
        differing=differing(sides, labels),
        standing=standing_table(sides),
        checks=run_checks(sides),
        accuracy=accuracy.main,
        rivals=accuracy.rivals,
        controls=accuracy.controls,
        pairs=compared,
        costs=costs,
        rival_costs=rival_costs,
        flips=flip_groups(sides, compared, labels),
    )


def _headlines(compared: Sequence[RunPair]) -> tuple[str, ...]:
    """What the main arms' tests say, as many as a reader takes in at once."""
    lines = [f"{found.text}." for found in compared if found.main]
    more = len(lines) - MOST_HEADLINES
    if more <= 0:
        return tuple(lines)
    return (*lines[:MOST_HEADLINES], f"And {more} more comparisons, prompt by prompt below.")


def write_comparison(comparison: Comparison, folder: Path) -> Pages:
    """Write `compare.html`, `compare.json` and `compare.md`.

    Raises:
        UsageError: The folder cannot be written.
    """
    html, markdown = compare_html(comparison), compare_markdown(comparison)
    return write_pages(folder, "compare", comparison, html=html, markdown=markdown)
