"""`gistbench history`: a folder of runs in, their trends out."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gistbench.errors import UsageError
from gistbench.report.compare.sides import Side, read_side
from gistbench.report.history.finding import FoundRun, find_runs, grouped
from gistbench.report.history.groups import GroupBuilder, group_title, history_run
from gistbench.report.history.pages import history_html, history_markdown
from gistbench.report.history.records import History, HistoryGroup, HistoryRun, SkippedRun
from gistbench.report.page.written import Pages, write_pages


def history(folder: Path) -> History:
    """Read every run below a folder and set runs of the same thing in a row.

    Samples of one run at a time are in memory, however many there are.

    Raises:
        UsageError: There is no run to be read.
    """
    found, skipped = find_runs(folder)
    groups: list[HistoryGroup] = []
    single: list[HistoryRun] = []
    titles: Counter[str] = Counter()
    for runs in grouped(found):
        title = group_title(runs[0].record)
        titles[title] += len(runs) > 1
        number = f" ({titles[title]})" if titles[title] > 1 else ""
        builder = GroupBuilder(runs[0].record, f"{title}{number}")
        last: HistoryRun | None = None
        for run in runs:
            side = _read(run, skipped)
            if side is not None:
                last = history_run(side)
                builder.add(side, last)
        if builder.num_runs > 1:
            groups.append(builder.group())
        elif last is not None:
            single.append(last)
    if not groups and not single:
        raise UsageError(
            f"no run below {folder} can be read ({skipped[0].folder}: {skipped[0].reason})"
        )
    everything = [run for group in groups for run in group.runs] + single
    return History(
        folder=str(folder),
        command=f"gistbench history {shlex.quote(str(folder))}",
        summary=_summary(groups, single, skipped),
        invalid=tuple(f"{run.label}: {text}" for run in everything for text in run.invalid),
        groups=tuple(groups),
        single=tuple(sorted(single, key=lambda run: run.created)),
        skipped=tuple(skipped),
    )


def write_history(found: History, folder: Path) -> Pages:
    """Write `history.html`, `history.json` and `history.md`.

    Raises:
        UsageError: The folder cannot be written.
    """
    html, markdown = history_html(found), history_markdown(found)
    return write_pages(folder, "history", found, html=html, markdown=markdown)


def _read(run: FoundRun, skipped: list[SkippedRun]) -> Side | None:
    """A run with its samples; one that is broken is named among the skipped ones."""
    try:
        return read_side(run.label, run.folder)
    except UsageError as error:
        skipped.append(SkippedRun(folder=run.label, reason=str(error)))
        return None


def _summary(
    groups: Sequence[HistoryGroup], single: Sequence[HistoryRun], skipped: Sequence[SkippedRun]
) -> str:
    repeated = sum(len(group.runs) for group in groups)
    parts = [f"{repeated + len(single):,} runs read"]
    if groups:
        plural = "s" if len(groups) > 1 else ""
        parts.append(f"{repeated:,} of them in {len(groups):,} group{plural} of the same thing")
    if single:
        parts.append(f"{len(single):,} with nothing like them")
    if skipped:
        parts.append(f"{len(skipped):,} skipped")
    return ", ".join(parts)
