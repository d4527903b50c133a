"""The needle test as it is usually drawn: length by depth, a map for each arm and each pair."""

from __future__ import annotations

from gistbench.records import TaskRecord
from gistbench.report.evidence import Evidence
from gistbench.report.needle import DepthRow, NeedleMap, NeedleMaps
from gistbench.report.sections.columns import FEW_TASKS, main_arms
from gistbench.report.sections.comparisons import main_pairs
from gistbench.report.sections.depth import bin_labels, difference_cells, num_bins, rate_cells

RATE = "{}: strict exact match by length of the context and depth of the needle"
DIFFERENCE = "{} minus {}, in points, on the same prompts"


def needle_maps(evidence: Evidence) -> tuple[NeedleMaps, ...]:
    """Maps of every task that ran at several lengths and whose needles have a depth."""
    tasks: dict[str, list[TaskRecord]] = {}
    for task in sorted(evidence.run.tasks, key=lambda task: task.context_tokens):
        tasks.setdefault(task.name, []).append(task)
    names = dict.fromkeys(task.name for task in evidence.run.tasks)
    few = len(names) <= FEW_TASKS
    found: list[NeedleMaps] = []
    for name in names:
        lengths = tasks[name]
        count = num_bins(evidence, lengths)
        if len(lengths) < 2 or count is None:
            continue
        maps = (*_arm_maps(evidence, lengths, count), *_pair_maps(evidence, lengths, count))
        found.append(
            NeedleMaps(task=name, bins=bin_labels(count), maps=maps, open=few or not found)
        )
    return tuple(found)


def _arm_maps(evidence: Evidence, tasks: list[TaskRecord], count: int) -> list[NeedleMap]:
    maps = []
    for arm in main_arms(evidence):
        rows = tuple(
            DepthRow(arm=_length(task), cells=rate_cells(samples, count))
            for task in tasks
            if (samples := evidence.samples(arm, task))
        )
        if any(cell.n for row in rows for cell in row.cells):
            maps.append(NeedleMap(label=arm, caption=RATE.format(arm), rows=rows))
    return maps


def _pair_maps(evidence: Evidence, tasks: list[TaskRecord], count: int) -> list[NeedleMap]:
    maps = []
    for one, two in main_pairs(evidence):
        rows = tuple(
            DepthRow(arm=_length(task), cells=cells)
            for task in tasks
            if (
                cells := difference_cells(
                    evidence.samples(one, task), evidence.samples(two, task), count
                )
            )
        )
        if rows:
            label = f"{one} minus {two}"
            maps.append(NeedleMap(label=label, caption=DIFFERENCE.format(one, two), rows=rows))
    return maps


def _length(task: TaskRecord) -> str:
    return f"{task.context_tokens:,} tokens"
