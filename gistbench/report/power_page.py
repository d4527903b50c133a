"""`docs/power.md`, written by ``python -m gistbench.report.power_page > docs/power.md``."""

from __future__ import annotations

from collections.abc import Callable

from gistbench.report.power import (
    DISCORDANCES,
    SIZES,
    TARGET_POWER,
    PowerCell,
    detectable_difference,
    power_table,
)
from gistbench.report.statistics import wilson

DIFFERENCES = (0.02, 0.05)
TOLD = (200, 400)

_TITLE = """# What n prompts can show

Written by `python -m gistbench.report.power_page`; a test holds this page against the code.

Two arms answer the same n prompts. The *discordance* is the share of prompts that exactly one of
them answers right, the *difference* what remains when the two kinds of discordant prompts are set
against each other. The test is McNemar's, exact and two-sided at 5 %; its power is summed, not
simulated. No adjustment for several tasks is in these figures: Holm's makes all of them lower.
"""


def power_page() -> str:
    """The whole page."""
    parts = [_TITLE]
    for difference in DIFFERENCES:
        parts.append(f"## Power for a true difference of {100 * difference:g} points\n")
        parts.append(_table(power_table(difference), lambda cell: _share(cell.power)))
        if difference == min(DISCORDANCES):
            parts.append(
                f"At a discordance of {100 * difference:g} % this is the largest difference that "
                "there can be: one arm answers all that the other does, and more.\n"
            )
    parts.append(f"## Smallest difference found with a power of {100 * TARGET_POWER:g} %\n")
    parts.append(_table(power_table(), lambda cell: _points(cell.detectable)))
    parts.append("A dash means that no difference is large enough.\n")
    parts.append("## In words\n")
    parts += [_in_words(n) for n in TOLD]
    return "\n".join(parts)


def _table(cells: tuple[PowerCell, ...], show: Callable[[PowerCell], str]) -> str:
    """Discordances as rows, numbers of prompts as columns."""
    found = {(cell.discordance, cell.n): cell for cell in cells}
    lines = [
        f"| discordance | {' | '.join(f'n = {n:,}' for n in SIZES)} |",
        "|---" * (len(SIZES) + 1) + "|",
        *(
            f"| {100 * discordance:g} % | "
            f"{' | '.join(show(found[discordance, n]) for n in SIZES)} |"
            for discordance in DISCORDANCES
        ),
    ]
    return "\n".join(lines) + "\n"


def _in_words(n: int) -> str:
    """What one number of prompts can show, and what it cannot."""
    low, high = min(DISCORDANCES), max(DISCORDANCES)
    near, far = (_points(detectable_difference(share, n)) for share in (low, high))
    known = {(c.discordance, c.n): c for c in power_table(min(DIFFERENCES))}
    chance = _share(known[0.08, n].power)
    spotless = wilson(0, n).high
    return (
        f"* **n = {n}** finds a difference of {near} points four times in five if the arms "
        f"disagree on {100 * low:g} % of the prompts, and needs {far} points if they disagree on "
        f"{100 * high:g} %. A true difference of {100 * min(DIFFERENCES):g} points is found in "
        f"{chance} of runs at a discordance of 8 %: a verdict of *inconclusive* is then no sign "
        f"that there is none. Of a rate alone, 0 of {n} leaves anything up to "
        f"{100 * spotless:.1f} % open.\n"
    )


def _share(power: float | None) -> str:
    return "–" if power is None else f"{100 * power:.0f} %"


def _points(difference: float | None) -> str:
    return "–" if difference is None else f"{100 * difference:.1f}"


if __name__ == "__main__":
    print(power_page(), end="")
