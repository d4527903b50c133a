"""A run that cannot be believed says so, and its accuracy cannot pass."""

import pytest

from gistbench.report.controls import control_verdict
from gistbench.report.criteria import load_criteria
from gistbench.report.validity import blocking_reason, shown_checks, validity_checks
from gistbench.report.verdicts import judge_run
from tests.fixtures.ladder_run import LadderRun, usual_rate


def statuses(evidence):
    return {check.id: check.status for check in validity_checks(evidence)}


def passkey(evidence):
    return {v.id: v for v in judge_run(load_criteria(), evidence)}["passkey_accuracy"]


def leaking(run, arm, right):
    return run.but(hits={**run.hits, arm: right})


def test_a_clean_run_has_nothing_to_say(gpu_run, read):
    assert set(statuses(read(gpu_run)).values()) == {"OK"}


@pytest.mark.parametrize("arm", ["swapped", "none"])
def test_a_leak_in_a_control_blocks_the_pass(gpu_run, read, arm):
    evidence = read(leaking(gpu_run, arm, 5))
    assert statuses(evidence)[f"control_{arm}"] == "INVALID-LEAK"
    found = passkey(evidence)
    assert (found.outcome, found.earned) == ("NOT_MEASURED", 0)
    assert "INVALID-LEAK" in found.reason


def test_a_leak_on_another_task_blocks_too(gpu_run, read):
    run = leaking(gpu_run.but(tasks=("niah_passkey", "niah_passkey_ko")), "swapped", 5)
    clean_english = run.but(
        sample_change=lambda s: (
            s.model_copy(update={"scores": {"exact_match": 0.0}, "output": "nothing"})
            if (s.arm, s.task) == ("swapped", "niah_passkey")
            else s
        )
    )
    assert passkey(read(clean_english)).outcome == "NOT_MEASURED"


@pytest.mark.parametrize(
    ("hits", "n", "floor", "status"),
    [
        (0, 1000, 1e-5, "OK"),
        (10, 1000, 1e-5, "OK"),
        (11, 1000, 1e-5, "INVALID-LEAK"),
        (0, 6, 1e-5, "OK"),
        (1, 6, 1e-5, "INVALID-LEAK"),
        (25, 100, 0.25, "OK"),
        (40, 100, 0.25, "INVALID-LEAK"),
    ],
)
def test_a_control_is_clean_up_to_one_percent_or_within_reach_of_guessing(hits, n, floor, status):
    assert control_verdict(hits, n, floor)[0] == status


def test_a_small_control_says_how_many_samples_would_show_more():
    assert "381 samples would show" in control_verdict(0, 6, 1e-5)[1]


@pytest.mark.parametrize("arm", ["swapped", "none"])
def test_without_its_controls_a_run_cannot_pass(gpu_run, read, arm):
    hits = {name: right for name, right in gpu_run.hits.items() if name != arm}
    evidence = read(gpu_run.but(hits=hits))
    assert statuses(evidence)[f"control_{arm}"] == "MISSING"
    assert passkey(evidence).outcome == "NOT_MEASURED"


def test_an_unfinished_control_is_a_missing_one(gpu_run, read):
    run = gpu_run.but(arm_changes={"swapped": {"complete": False}})
    assert statuses(read(run))["control_swapped"] == "MISSING"
    assert passkey(read(run)).outcome == "NOT_MEASURED"


@pytest.mark.parametrize("donor", [None, "niah_passkey-9999", "own"])
def test_swapped_gists_must_be_another_documents(gpu_run, read, donor):
    def own(sample):
        name = sample.sample_id if donor == "own" else donor
        swapped = sample.arm == "swapped" and sample.index == 3
        return sample.model_copy(update={"donor_sample_id": name}) if swapped else sample

    evidence = read(gpu_run.but(sample_change=own))
    assert statuses(evidence)["control_swapped"] == "INVALID"
    assert passkey(evidence).outcome == "NOT_MEASURED"


@pytest.mark.parametrize(("leaks", "status"), [(True, "INVALID-LEAK"), (False, "OK")])
def test_a_leak_does_not_hide_among_documents_that_hold_no_answer(gpu_run, read, leaks, status):
    """As niah_absent: saying "none" everywhere is right in half of the samples, and no leak."""

    def half_absent(sample):
        absent = sample.index % 2 == 1
        changes = {"needle_depth": None, "depth": None} if absent else {}
        if sample.arm == "swapped":
            right = float(absent != leaks)
            changes["scores"] = {**sample.scores, "exact_match": right, "contains": right}
        return sample.model_copy(update=changes)

    floors = {"chance_floor": 0.5, "control_floor": 1e-5}
    evidence = read(gpu_run.but(sample_change=half_absent, task_changes=floors))
    assert statuses(evidence)["control_swapped"] == status


def test_the_swapped_control_tells_how_often_the_answer_followed_the_gists(gpu_run, read):
    text = next(c.text for c in validity_checks(read(gpu_run)) if c.id == "control_swapped")
    assert "states the other document's key in 40 of 40" in text


def test_scorers_that_disagree_by_more_than_two_points_warn(gpu_run, read):
    def chatty(sample):
        full = sample.arm == "full"
        return sample.model_copy(
            update={"scores": {**sample.scores, "contains": 1.0}} if full else {}
        )

    assert statuses(read(gpu_run.but(sample_change=chatty)))["scorers"] == "WARNING"


def test_a_right_answer_that_does_not_hold_the_key_is_invalid(gpu_run, read):
    def wrong(sample):
        gist = sample.arm == "gist" and sample.index == 0
        return sample.model_copy(update={"output": "no idea"}) if gist else sample

    evidence = read(gpu_run.but(sample_change=wrong))
    assert statuses(evidence)["outputs"] == "INVALID"
    assert passkey(evidence).outcome == "NOT_MEASURED"


def test_a_prompt_counted_twice_is_invalid(gpu_run, read):
    def same(sample):
        return sample.model_copy(update={"prompt_sha256": "aa" * 32})

    evidence = read(gpu_run.but(sample_change=same))
    assert statuses(evidence)["distinct_prompts"] == "INVALID"
    assert passkey(evidence).outcome == "NOT_MEASURED"


def test_arms_with_other_prompts_warn(gpu_run, read):
    def other(sample):
        full = sample.arm == "full"
        return sample.model_copy(update={"prompt_sha256": "f" + sample.sample_id} if full else {})

    assert statuses(read(gpu_run.but(sample_change=other)))["same_prompts"] == "WARNING"


def test_longer_contexts_incomplete_arms_and_dirty_commits_warn(gpu_run, read):
    record = gpu_run.record()
    dirty = record.provenance.model_copy(update={"git_dirty": True})
    run = gpu_run.but(
        context_tokens=7900,
        run_changes={"provenance": dirty},
        arm_changes={"full": {"complete": False, "warnings": ("slow",)}},
    )
    found = statuses(read(run))
    for check in ("trained_length", "complete", "commit", "arm_warning"):
        assert found[check] == "WARNING"


LADDER = LadderRun(arms=("gist", "full-tuned", "swapped", "none"), num_samples=20)


def controls(evidence):
    return [check for check in shown_checks(evidence) if check.id.startswith("control_")]


def test_many_tasks_make_one_row_per_control_with_the_others_behind_it(read):
    evidence = read(LADDER)
    rows = controls(evidence)
    assert [row.id for row in rows] == ["control_swapped", "control_none"]
    for row in rows:
        assert row.status == "OK"
        assert "on 18 tasks: no leak seen on 16, with too few samples" in row.text
        assert "within reach of guessing on 2" in row.text
        assert len(row.details) == 17
        assert "clean on" not in row.text  # 20 samples cannot show that


def test_a_leak_on_one_of_many_tasks_stands_in_its_own_row(read):
    def leaking(arm, task, tokens):
        found = usual_rate(arm, task, tokens)
        return 0.5 if (arm, task) == ("swapped", "niah_update") else found

    evidence = read(LADDER.but(rate=leaking))
    first, *rest = controls(evidence)
    assert (first.status, first.task) == ("INVALID-LEAK", "niah_update")
    assert [row.status for row in rest] == ["OK", "OK"]
    assert all("niah_update" not in line.label for line in rest[0].details)
    assert "INVALID-LEAK" in (blocking_reason(evidence, "niah_passkey") or "")


def test_the_worst_of_many_tasks_decides_a_controls_row_and_blocks_its_task(read):
    def unfinished(sample):
        last = sample.arm == "none" and sample.task == "niah_uuid" and sample.index == 19
        return None if last else sample

    evidence = read(LADDER.but(sample_change=unfinished))
    row = next(row for row in controls(evidence) if row.id == "control_none")
    assert row.status == "MISSING"
    assert "Worst, niah_uuid: 1 samples of arm none are missing" in row.text
    assert "MISSING" in (blocking_reason(evidence, "niah_uuid") or "")
    assert blocking_reason(evidence, "niah_passkey") is None


def test_a_finding_that_holds_for_many_arms_is_short_with_all_of_them_behind_it(read):
    def chatty(sample):
        chatters = sample.arm == "full-tuned"
        return sample.model_copy(
            update={"scores": {**sample.scores, "contains": 1.0}} if chatters else {}
        )

    evidence = read(LADDER.but(sample_change=chatty))
    row = next(row for row in shown_checks(evidence) if row.id == "scorers")
    assert row.text.startswith("full-tuned on niah_digits_40: exact 0.0 %, contained 100.0 %")
    assert "; and " in row.text and len(row.details) >= 4


def test_a_haystack_of_the_users_own_is_said_above_the_score(read):
    run = LadderRun(tasks=("niah_passkey", "niah_uuid"), arms=("gist", "swapped", "none"))
    own = {"niah_passkey": {"version": "1.2+haystack-0123456789ab"}}
    assert "own_haystack" not in statuses(read(run))
    found = {check.id: check for check in validity_checks(read(run.but(task_changes=own)))}
    assert found["own_haystack"].status == "WARNING"
    assert found["own_haystack"].text.endswith("training may have seen: niah_passkey")


def test_a_haystack_of_the_users_own_decides_no_criterion(read):
    run = LadderRun(tasks=("niah_passkey",), arms=("gist", "full", "swapped", "none"))
    own = {"niah_passkey": {"version": "1.2+haystack-0123456789ab"}}
    before, after = (
        {verdict.id: verdict for verdict in judge_run(load_criteria(), read(case))}
        for case in (run, run.but(task_changes=own))
    )
    assert before["passkey_accuracy"].outcome != "NOT_MEASURED"
    assert after["passkey_accuracy"].outcome == "NOT_MEASURED"
    assert "the user's own" in after["passkey_accuracy"].reason
