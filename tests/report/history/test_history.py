"""What a history says of runs in a row, and how its page shows it."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from gistbench.errors import UsageError
from gistbench.report.history import History, history, history_table, write_history
from gistbench.storage import read_json
from tests.fixtures.ladder_run import LadderRun
from tests.fixtures.page_reader import PageReader
from tests.fixtures.synthetic_run import SyntheticRun

RUN = SyntheticRun(num_samples=40, hits={"gist": 40, "full": 16, "swapped": 0, "none": 0})


def nightly(folder: Path, *gist_hits: int, **changes) -> Path:
    """A run a day, in which the gist arm is right so often."""
    for day, hits in enumerate(gist_hits, start=1):
        run = RUN.but(hits={**RUN.hits, "gist": hits}, **changes)
        created = {"created": f"2030-01-{day:02d}T03:00:00Z", **run.run_changes}
        run.but(run_changes=created).write(folder / f"day-{day}")
    return folder


def elsewhere(run, **fields):
    where = run.record().provenance.model_copy(update=fields)
    return {**run.run_changes, "provenance": where}


def printed(found):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(history_table(found))
    return console.export_text()


def test_a_step_down_is_flagged_worse_and_a_step_up_better_the_latest_first(tmp_path):
    (group,) = history(nightly(tmp_path, 40, 39, 20, 40)).groups
    assert [flag.verdict for flag in group.flags] == ["better", "worse"]
    assert group.flags[1].text.startswith("gist on niah_passkey, day-3 after day-2: -47.5 points")


def test_each_run_is_held_against_the_one_before(tmp_path):
    (group,) = history(nightly(tmp_path, 40, 20, 20)).groups
    gist = [step for step in group.steps if step.arm == "gist"]
    assert [(step.before, step.run) for step in gist] == [("day-1", "day-2"), ("day-2", "day-3")]
    assert [(s.rows[0].only_first, s.rows[0].only_second) for s in gist] == [(0, 20), (0, 0)]


def test_a_slow_loss_that_no_step_shows_is_seen_against_the_first(tmp_path):
    (group,) = history(nightly(tmp_path, 40, 37, 34, 31, 28)).groups
    assert group.flags == ()
    assert group.since_first[0].startswith("gist, day-5 against day-1 on niah_passkey: worse")


def test_two_runs_are_one_step_and_no_more(tmp_path):
    (group,) = history(nightly(tmp_path, 40, 20)).groups
    assert group.since_first == ()
    assert len(group.flags) == 1


def test_a_flag_says_what_else_is_new(tmp_path):
    nightly(tmp_path, 40)
    changes = elsewhere(RUN, git_commit="feedbeef", packages={"torch": "3"})
    checkpoint = RUN.record().checkpoint.model_copy(update={"sha256": "01" * 32})
    changes |= {"created": "2030-01-02T03:00:00Z", "checkpoint": checkpoint}
    RUN.but(hits={**RUN.hits, "gist": 10}, run_changes=changes).write(tmp_path / "new")
    (group,) = history(tmp_path).groups
    assert group.flags[0].text.endswith("; new: checkpoint, commit, package versions")


def test_the_tuned_checkpoint_the_driver_and_the_settings_are_among_what_is_new(tmp_path):
    tuned = RUN.record().checkpoint.model_copy(update={"num_gists": 0})
    nightly(tmp_path, 40, run_changes={"tuned_checkpoint": tuned, "settings": {"batch_size": 8}})
    changes = elsewhere(RUN, driver_version="999")
    changes["created"] = "2030-01-02T03:00:00Z"
    changes["tuned_checkpoint"] = tuned.model_copy(update={"sha256": "01" * 32})
    changes["settings"] = {"batch_size": 9}
    RUN.but(hits={**RUN.hits, "gist": 10}, run_changes=changes).write(tmp_path / "new")
    (flag,) = history(tmp_path).groups[0].flags
    assert flag.text.endswith("; new: tuned checkpoint, driver, CUDA or Python, settings")


def test_an_option_that_the_older_run_did_not_know_is_not_new(tmp_path):
    nightly(tmp_path, 40)
    changes = {"created": "2030-01-02T03:00:00Z"}
    changes["settings"] = {**RUN.record().settings, "haystack": None}
    RUN.but(hits={**RUN.hits, "gist": 10}, run_changes=changes).write(tmp_path / "new")
    (flag,) = history(tmp_path).groups[0].flags
    assert flag.text.endswith("; nothing else is new")


def test_a_flag_on_a_task_that_cannot_tell_arms_apart_says_so(tmp_path):
    hits = {**RUN.hits, "full-tuned": 0}
    for day, gist in ((1, 40), (2, 10)):
        changes = {"created": f"2030-01-0{day}T00:00:00Z"}
        run = RUN.but(hits={**hits, "gist": gist}, run_changes=changes)
        run.write(tmp_path / f"day-{day}")
    (flag,) = history(tmp_path).groups[0].flags
    assert "and the task is not discriminative" in flag.text


def test_the_table_has_a_row_for_each_run_and_marks_the_flagged(tmp_path):
    (group,) = history(nightly(tmp_path, 40, 20, 21)).groups
    gist = group.accuracy.groups[0]
    assert gist.title == "gist"
    assert [row.cells[0].value for row in gist.rows] == [1.0, 0.5, 0.525]
    assert [row.cells[0].badge for row in gist.rows] == ["", "worse", ""]
    assert [row.note for row in gist.rows] == ["day-1", "day-2", "day-3"]


def test_a_leak_takes_the_verdict_of_the_steps_around_it_and_stands_on_top(tmp_path):
    nightly(tmp_path, 40, 40)
    run = RUN.but(hits={**RUN.hits, "gist": 10, "swapped": 30})
    run.but(run_changes={"created": "2030-01-03T00:00:00Z"}).write(tmp_path / "leak")
    found = history(tmp_path)
    assert found.invalid[0].startswith("leak: swapped on niah_passkey")
    (group,) = found.groups
    assert group.flags == ()
    cell = group.accuracy.groups[0].rows[2].cells[0]
    assert cell.detail.startswith("no verdict: INVALID-LEAK in leak")
    write_history(found, tmp_path / "out")
    page = PageReader((tmp_path / "out" / "history.html").read_text(encoding="utf-8"))
    assert page.words.index("INVALID-LEAK. A control arm") < page.words.index("Runs stand together")


def test_costs_are_joined_only_under_the_same_conditions(tmp_path):
    nightly(tmp_path, 40)
    changes = elsewhere(RUN, device_name="NVIDIA A100")
    changes["created"] = "2030-01-02T00:00:00Z"
    RUN.but(run_changes=changes).write(tmp_path / "other")
    (group,) = history(tmp_path).groups
    conditions = {
        trend.metric: [point.conditions for point in trend.lines[0].points]
        for trend in group.cost_trends
    }
    assert conditions["cache_bytes"] == ["", ""]
    assert conditions["torch_allocated_bytes"] == [
        "NVIDIA H200, 32 contexts held",
        "NVIDIA A100, 32 contexts held",
    ]
    assert conditions["first_token_seconds"][0] == "NVIDIA H200, batches of 1"


def test_on_a_cpu_the_number_of_cores_is_among_the_conditions(tmp_path):
    cpu = RUN.but(gpu=False)
    for day, cores in ((1, 16), (2, 2)):
        changes = elsewhere(cpu, num_cpu_cores=cores)
        changes["created"] = f"2030-01-0{day}T00:00:00Z"
        cpu.but(run_changes=changes).write(tmp_path / f"day-{day}")
    trends = {trend.metric: trend for trend in history(tmp_path).groups[0].cost_trends}
    first, second = trends["first_token_seconds"].lines[0].points
    assert "with 16 cores" in first.conditions
    assert "with 2 cores" in second.conditions


def test_a_cost_that_nobody_measured_has_no_panel(tmp_path):
    (group,) = history(nightly(tmp_path, 40, 40, gpu=False)).groups
    assert "torch_allocated_bytes" not in {trend.metric for trend in group.cost_trends}


def test_a_run_with_nothing_like_it_stands_alone(tmp_path):
    nightly(tmp_path, 40, 40)
    SyntheticRun(num_samples=6, hits={**RUN.hits, "gist": 6, "full": 1}).write(tmp_path / "other")
    found = history(tmp_path)
    assert [run.label for run in found.single] == ["other"]
    assert found.summary == (
        "3 runs read, 2 of them in 1 group of the same thing, 1 with nothing like them"
    )


def test_a_run_with_broken_samples_is_skipped_and_the_next_meets_the_one_before(tmp_path):
    nightly(tmp_path, 40, 40, 20)
    (tmp_path / "day-2" / "samples.jsonl").write_text("{")
    found = history(tmp_path)
    assert [skipped.folder for skipped in found.skipped] == ["day-2"]
    (group,) = found.groups
    assert group.flags[0].text.startswith("gist on niah_passkey, day-3 after day-1")


def test_a_folder_in_which_no_samples_can_be_read_is_one_sentence(tmp_path):
    nightly(tmp_path, 40)
    (tmp_path / "day-1" / "samples.jsonl").unlink()
    with pytest.raises(UsageError, match=r"no run below .* can be read \(day-1: "):
        history(tmp_path)


def test_groups_of_other_prompts_are_told_apart_by_number(tmp_path):
    nightly(tmp_path / "one", 40, 40)
    nightly(tmp_path / "two", 40, 40, task_changes={"samples_sha256": "01" * 32})
    titles = [group.title for group in history(tmp_path).groups]
    assert titles == [
        "SmolLM2-135M-Instruct, bfloat16: niah_passkey",
        "SmolLM2-135M-Instruct, bfloat16: niah_passkey (2)",
    ]


def test_many_arms_leave_the_main_ones_and_say_how_many_more_ran(tmp_path):
    arms = ("gist", "full", *(f"truncate-{n}" for n in (10, 20, 30, 40, 50)), "swapped", "none")
    for day in (1, 2):
        changes = {"created": f"2030-01-0{day}T00:00:00Z"}
        LadderRun(tasks=("niah_passkey",), arms=arms, run_changes=changes).write(
            tmp_path / f"day-{day}"
        )
    (group,) = history(tmp_path).groups
    assert [arm.title for arm in group.accuracy.groups] == ["gist", "full"]
    assert group.omitted == "Shown for the arms without a budget; 5 more ran."


def test_the_page_needs_no_network_and_no_script_and_is_well_formed(tmp_path):
    nightly(tmp_path / "runs", 40, 20, 40)
    paths = write_history(history(tmp_path / "runs"), tmp_path / "out")
    page = PageReader(paths.html.read_text(encoding="utf-8"))
    page.require_self_contained()
    page.require_accessible()
    assert page.tags.count("svg") == 2
    assert "#0" not in page.source.split("<svg", 1)[1].split("</svg>")[0]


def test_hostile_text_stays_text(tmp_path):
    base = RUN.record().base.model_copy(update={"name": "$a$<script>[red]\u202e\x1b[31m|`"})
    nightly(tmp_path / "runs", 40, 20, run_changes={"base": base})
    found = history(tmp_path / "runs")
    paths = write_history(found, tmp_path / "out")
    page = PageReader(paths.html.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert "$a$<script>[red]⟨U+202E⟩⟨ESC⟩[31m|`" in page.text
    for text in (page.source, paths.markdown.read_text(encoding="utf-8"), printed(found)):
        assert "\u202e" not in text
        assert "\x1b" not in text
    assert "<script>" not in paths.markdown.read_text(encoding="utf-8")


def test_the_record_survives_its_file_and_is_plain_json(tmp_path):
    found = history(nightly(tmp_path / "runs", 40, 20))
    paths = write_history(found, tmp_path / "out")
    assert read_json(paths.json, History) == found
    text = paths.json.read_text(encoding="utf-8")
    assert json.loads(text)["groups"][0]["flags"][0]["verdict"] == "worse"
    assert "NaN" not in text


def test_the_same_runs_give_the_same_bytes(tmp_path):
    nightly(tmp_path / "runs", 40, 20)
    one, two = (
        write_history(history(tmp_path / "runs"), tmp_path / name) for name in ("one", "two")
    )
    for name in ("html", "json", "markdown"):
        assert getattr(one, name).read_bytes() == getattr(two, name).read_bytes()


def test_the_terminal_names_runs_flags_and_what_was_skipped(tmp_path):
    nightly(tmp_path, 40, 20)
    (tmp_path / "half" / "work").mkdir(parents=True)
    text = printed(history(tmp_path))
    assert "day-2" in text
    assert "worse: gist on niah_passkey, day-2 after day-1" in text
    assert "skipped: half: not finished" in text
