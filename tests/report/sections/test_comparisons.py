"""Any two arms, task by task, and tasks that cannot tell arms apart."""

import pytest

from gistbench.records import NotApplicable
from gistbench.report.discrimination import in_words, task_statuses
from gistbench.report.sections.comparisons import comparisons, headline, paired_rows
from gistbench.report.statistics import holm
from tests.fixtures.ladder_run import LadderRun, usual_rate

LADDER = LadderRun(
    tasks=("niah_passkey", "niah_digits_40", "niah_update", "niah_absent"),
    arms=("gist", "full", "full-tuned", "truncate-10", "rag-10", "swapped", "none"),
)


def test_gist_meets_every_arm_but_the_controls_and_full_tuned_meets_full(read):
    _, pairs = comparisons(read(LADDER))
    assert [(pair.first, pair.second, pair.main) for pair in pairs] == [
        ("gist", "full", True),
        ("gist", "full-tuned", True),
        ("full-tuned", "full", True),
        ("gist", "truncate-10", False),
        ("gist", "rag-10", False),
    ]


def test_p_values_are_adjusted_over_the_tasks_of_two_arms(read):
    rows = paired_rows(read(LADDER), "gist", "full")
    assert [row.adjusted_p for row in rows] == pytest.approx(holm([row.p_value for row in rows]))
    assert {row.task: row.verdict for row in rows} == {
        "niah_passkey": "better",
        "niah_digits_40": "both guess",
        "niah_update": "worse",
        "niah_absent": "both guess",
    }


def test_an_inconclusive_verdict_says_how_many_prompts_would_decide(read):
    def close(arm, task, tokens):
        return 0.5 if arm == "full" else 0.55

    rows = paired_rows(read(LADDER.but(rate=close)), "gist", "full")
    open_ones = [row for row in rows if row.verdict == "inconclusive"]
    assert open_ones
    assert all("would decide" in row.verdict_text for row in open_ones)


def test_two_arms_that_only_guess_are_not_called_equivalent(read):
    def nothing(arm, task, tokens):
        ignorant = task == "niah_update" and arm in ("gist", "full")
        return 0.0 if ignorant else usual_rate(arm, task, tokens)

    evidence = read(LADDER.but(rate=nothing))
    rows = {row.task: row for row in paired_rows(evidence, "gist", "full")}
    assert rows["niah_update"].verdict == "both guess"
    assert rows["niah_update"].verdict_text == ""
    assert rows["niah_passkey"].verdict == "better"
    # One arm above the floor is enough for a verdict.
    against_tuned = {row.task: row for row in paired_rows(evidence, "gist", "full-tuned")}
    assert against_tuned["niah_update"].verdict == "worse"
    assert "2 both guess" in comparisons(evidence)[1][0].text


def test_the_even_comparison_is_summed_up_first_where_there_are_many_tasks(read):
    few = read(LADDER.but(tasks=LADDER.tasks[:3]))
    assert not headline(comparisons(few)[1], few)
    many = read(LADDER.but(tasks=(*LADDER.tasks, "niah_uuid", "niah_labelled_2", "ruler_vt")))
    (line,) = headline(comparisons(many)[1], many)
    assert line.startswith("gist against full-tuned on 6 tasks: ")
    assert line.endswith("not discriminative and not counted.")


def test_another_arm_changes_nothing_for_the_others(read):
    before = {(r.first, r.second, r.task): r for r in comparisons(read(LADDER))[0]}
    more = LADDER.but(arms=(*LADDER.arms, "mean-pool-64"))
    after = {(r.first, r.second, r.task): r for r in comparisons(read(more))[0]}
    assert len(after) == len(before) + 4
    assert before.items() <= after.items()


def test_another_task_changes_a_verdict_through_holm_alone(read):
    before = {row.task: row for row in paired_rows(read(LADDER), "gist", "full")}
    more = LADDER.but(tasks=(*LADDER.tasks, "ruler_vt"))
    after = {row.task: row for row in paired_rows(read(more), "gist", "full")}
    for task, row in before.items():
        assert row.p_value == after[task].p_value
        assert row.difference == after[task].difference
        assert (row.adjusted_p or 0) <= (after[task].adjusted_p or 0)


def test_a_task_with_full_tuned_at_its_floor_is_in_no_summary(read):
    evidence = read(LADDER)
    found = {status.label: status for status in task_statuses(evidence)}
    assert {label: status.discriminative for label, status in found.items()} == {
        "niah_passkey": True,
        "niah_digits_40": False,
        "niah_update": True,
        "niah_absent": True,
    }
    assert "at its chance floor" in found["niah_digits_40"].text
    rows, pairs = comparisons(evidence)
    assert {row.task for row in rows if not row.counts} == {"niah_digits_40"}
    assert pairs[0].text.startswith("gist against full on 3 tasks:")
    assert pairs[0].text.endswith("1 not discriminative and not counted")


def test_a_floor_that_is_half_is_a_floor(read):
    def no_better(arm, task, tokens):
        return 0.5 if task == "niah_absent" else usual_rate(arm, task, tokens)

    statuses = task_statuses(read(LADDER.but(rate=no_better)))
    assert {s.label for s in statuses if s.discriminative is False} == {
        "niah_digits_40",
        "niah_absent",
    }


def test_without_full_tuned_it_is_not_known_which_tasks_tell_arms_apart(read):
    evidence = read(LADDER.but(arms=("gist", "full", "swapped", "none")))
    assert {status.discriminative for status in task_statuses(evidence)} == {None}
    assert in_words(evidence).endswith("is not known: full-tuned did not run.")
    assert all(row.counts for row in comparisons(evidence)[0])


def test_a_length_that_full_tuned_cannot_read_leaves_it_open(read):
    out = NotApplicable(arm="full-tuned", context_tokens=9000, reason="it reads 8,192 tokens")
    run = LADDER.but(tasks=("niah_passkey",), lengths=(4925, 9000), not_applicable=(out,))
    short, long = task_statuses(read(run))
    assert (short.discriminative, long.discriminative) == (True, None)
    assert long.text == "not known, full-tuned cannot take part: it reads 8,192 tokens"
