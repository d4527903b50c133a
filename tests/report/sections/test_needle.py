"""Length by depth: every cell has its n and interval, differences are of the same prompts."""

import pytest

from gistbench.report.needle import DepthRow
from gistbench.report.sections.depth import depth_tables, difference_cells, rate_cells
from gistbench.report.sections.needle import needle_maps
from gistbench.report.statistics import paired_difference, wilson
from tests.fixtures.ladder_run import LadderRun

LENGTHS = LadderRun(
    tasks=("niah_passkey", "niah_update"),
    lengths=(4925, 1024, 2048),
    arms=("gist", "full", "full-tuned", "swapped", "none"),
    num_samples=50,
)


def test_a_task_at_several_lengths_has_a_map_for_each_arm_and_each_pair(read):
    first, second = needle_maps(read(LENGTHS))
    assert (first.task, second.task) == ("niah_passkey", "niah_update")
    assert [found.label for found in first.maps] == [
        "gist",
        "full",
        "full-tuned",
        "swapped",
        "none",
        "gist minus full",
        "gist minus full-tuned",
        "full-tuned minus full",
    ]
    for found in first.maps:
        assert [row.arm for row in found.rows] == ["1,024 tokens", "2,048 tokens", "4,925 tokens"]
        for row in found.rows:
            assert sum(cell.n for cell in row.cells) == 50
            assert all(cell.count and cell.interval for cell in row.cells if cell.n)


def test_a_task_at_one_length_has_no_map_and_a_table_of_arms_and_differences(read, gpu_run):
    evidence = read(gpu_run)
    assert needle_maps(evidence) == ()
    (table,) = depth_tables(evidence)
    assert [row.arm for row in table.rows] == ["gist", "full", "swapped", "none"]
    assert "gist minus full" in [row.arm for row in table.differences]


def test_the_table_by_depth_is_of_the_length_that_criteria_are_judged_at(read):
    tables = depth_tables(read(LENGTHS))
    assert [t.task for t in tables] == ["niah_passkey, 4,925 tokens", "niah_update, 4,925 tokens"]


def test_a_cell_is_the_rate_of_its_part_with_wilsons_interval(read, gpu_run):
    samples = read(gpu_run).samples("full")
    cells = rate_cells(samples, 5)
    hits = [s.scores["exact_match"] == 1 for s in samples if s.index < 8]
    found = wilson(sum(hits), 8)
    figure = cells[0].figure
    assert (figure.value, figure.low, figure.high, figure.n) == (
        found.value,
        found.low,
        found.high,
        8,
    )


def test_a_difference_is_paired_and_swapping_the_arms_turns_it_around(read, gpu_run):
    evidence = read(gpu_run)
    gist, full = evidence.samples("gist"), evidence.samples("full")
    cells, turned = difference_cells(gist, full, 5), difference_cells(full, gist, 5)
    one, two = (
        {s.prompt_sha256: s.scores["exact_match"] == 1 for s in samples if s.index < 8}
        for samples in (gist, full)
    )
    gap = paired_difference(one, two).difference
    assert (cells[0].figure.value, cells[0].figure.low) == (gap.value, gap.low)
    for cell, other in zip(cells, turned, strict=True):
        assert cell.figure.value == pytest.approx(-(other.figure.value or 0))
        assert cell.heat == -(other.heat or 0)
        assert cell.figure.text.startswith("+")


def test_only_prompts_that_both_answered_count_and_none_in_common_is_no_row(read, gpu_run):
    evidence = read(gpu_run)
    gist, full = evidence.samples("gist"), evidence.samples("full")
    assert [cell.n for cell in difference_cells(gist[:3], full, 5)] == [3, 0, 0, 0, 0]
    assert difference_cells(gist[:3], full[5:], 5) == ()
    empty = difference_cells(gist[:3], full, 5)[1]
    assert (empty.heat, empty.figure.not_measured) == (None, "no needle stands here")


def test_no_difference_has_no_shade(read, gpu_run):
    samples = read(gpu_run).samples("gist")
    cells = difference_cells(samples, samples, 5)
    assert {cell.heat for cell in cells} == {0}
    assert DepthRow(arm="gist minus gist", cells=cells).cells[0].figure.value == 0
