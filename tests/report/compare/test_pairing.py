"""When two runs get a paired verdict, what it rests on, and when there is none."""

from pathlib import Path

import pytest

from gistbench.errors import UsageError
from gistbench.report.statistics import holm
from tests.fixtures.ladder_run import LadderRun, usual_rate
from tests.fixtures.synthetic_run import SyntheticRun
from tests.report.compare.conftest import answering, with_samples

RUN = SyntheticRun(num_samples=10, hits={"gist": 10, "full": 4, "swapped": 0, "none": 0})
BEFORE = answering(RUN, gist="1111100000")
AFTER = answering(RUN, gist="1110010000")


def pair(found, arm, run="B"):
    return next(one for one in found.pairs if (one.run, one.arm) == (run, arm))


def other_prompts(run):
    return with_samples(run, prompt_sha256=lambda s: s.prompt_sha256[::-1])


def test_the_same_prompts_are_paired_and_counted_as_by_hand(compared):
    # Both right on samples 0, 1, 2; only A on 3 and 4; only B on 5; neither on 6 to 9.
    (row,) = pair(compared(BEFORE, AFTER), "gist").rows
    assert (row.first, row.second) == ("B", "A")
    assert (row.both, row.only_first, row.only_second, row.neither) == (3, 1, 2, 4)
    assert row.difference.value == pytest.approx(-0.1)
    assert row.difference.n == 10
    assert row.p_value == 1.0  # one against two is as even as three can be
    assert row.unpaired == 0


def test_a_difference_is_the_run_minus_the_reference(compared):
    good, bad = answering(RUN, gist="1" * 10), answering(RUN, gist="0" * 10)
    assert pair(compared(good, bad), "gist").rows[0].verdict == "worse"
    assert pair(compared(bad, good), "gist").rows[0].verdict == "better"


def test_prompts_that_one_run_alone_has_are_left_out_and_counted(compared):
    longer = RUN.but(num_samples=14, hits={**RUN.hits, "gist": 14})
    (row,) = pair(compared(BEFORE, longer), "gist").rows
    assert (row.difference.n, row.unpaired) == (10, 4)
    assert (row.both, row.only_first, row.only_second, row.neither) == (5, 5, 0, 0)


def test_other_prompts_get_rates_and_no_verdict(compared):
    found = compared(BEFORE, other_prompts(AFTER))
    gist = pair(found, "gist")
    assert gist.rows == ()
    assert gist.unpaired[0].reason == "no prompt in common: the documents are others"
    assert "no paired verdict" in gist.text
    before, after, verdict = found.accuracy[0].groups[0].rows[0].cells
    assert (before.value, after.value, verdict.value) == (0.5, 0.4, None)
    assert (before.n, after.n) == (10, 10)
    assert before.low < before.value < before.high
    assert verdict.not_applicable and "no prompt in common" in verdict.not_measured
    assert found.flips == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"task_changes": {"seed": 8}}, "another seed, 7 there and 8 here"),
        ({"task_changes": {"split": "train"}}, "another split, test there and train here"),
        ({"run_changes": {"settings": {"haystack": "mine"}}}, "another haystack"),
    ],
)
def test_the_reason_for_other_prompts_is_named(compared, change, reason):
    found = compared(BEFORE, other_prompts(AFTER).but(**change))
    assert reason in pair(found, "gist").unpaired[0].reason


def test_another_tokenizer_is_a_reason_for_other_prompts(compared):
    base = RUN.record().base.model_copy(update={"name": "other", "fingerprint": "12" * 32})
    found = compared(BEFORE, other_prompts(AFTER).but(run_changes={"base": base}))
    assert "another base model" in pair(found, "gist").unpaired[0].reason
    assert any("Other base weights" in note for note in found.notes)


def test_another_base_model_on_the_same_prompts_is_paired(compared):
    base = RUN.record().base.model_copy(update={"name": "other", "fingerprint": "12" * 32})
    found = compared(BEFORE, AFTER.but(run_changes={"base": base}))
    assert pair(found, "gist").rows[0].difference.n == 10


def test_another_length_gets_a_row_of_its_own_and_no_verdict(compared):
    found = compared(BEFORE, other_prompts(AFTER).but(context_tokens=2048))
    rows = found.accuracy[0].groups[0].rows
    assert [row.label for row in rows] == [
        "niah_passkey, 2,048 tokens",
        "niah_passkey, 4,925 tokens",
    ]
    assert all(row.cells[2].not_applicable for row in rows)
    assert pair(found, "gist").rows == ()
    assert pair(found, "gist").text == "gist, B against A: no task in common at the same length"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "2"}, "another version of the task: 1 there and 2 here"),
        (
            {"generation": {"do_sample": False, "max_gen_toks": 32}},
            "other generation settings: max_gen_toks 16 there and 32 here",
        ),
        (
            {"exact_match_means": "the text before the first full stop"},
            "another meaning of exact match: the usual there and the text before the first full "
            "stop here",
        ),
    ],
)
def test_the_same_prompts_scored_otherwise_get_no_verdict(compared, change, reason):
    gist = pair(compared(BEFORE, AFTER.but(task_changes=change)), "gist")
    assert gist.rows == ()
    assert gist.unpaired[0].reason == reason


def test_a_prompt_that_stands_twice_gets_no_verdict(compared):
    twice = with_samples(
        AFTER, prompt_sha256=lambda s: "0" * 64 if s.index < 2 else s.prompt_sha256
    )
    found = compared(BEFORE, twice)
    assert pair(found, "gist").unpaired[0].reason == "prompts that stand twice in B: 1"
    assert pair(found, "full").rows == ()


def test_the_tasks_of_one_arm_are_one_family_which_other_runs_and_arms_leave_alone(compared):
    ladder = LadderRun(
        tasks=("niah_passkey", "niah_update", "niah_uuid"), arms=("gist", "full", "swapped", "none")
    )
    worse = ladder.but(rate=lambda arm, task, tokens: 0.6 * usual_rate(arm, task, tokens))
    two = pair(compared(ladder, worse), "gist")
    assert [r.adjusted_p for r in two.rows] == pytest.approx(holm([r.p_value for r in two.rows]))
    assert len(two.rows) == 3
    assert "on 3 tasks: " in two.text
    assert pair(compared(ladder, worse, ladder), "gist") == two


def test_a_task_that_cannot_tell_arms_apart_is_not_counted(compared):
    arms = ("gist", "full", "full-tuned", "swapped", "none")
    ladder = LadderRun(tasks=("niah_passkey", "niah_update", "niah_digits_40"), arms=arms)
    gist = pair(compared(ladder, ladder), "gist")
    assert {row.task: row.counts for row in gist.rows} == {
        "niah_passkey": True,
        "niah_update": True,
        "niah_digits_40": False,  # full-tuned is right nowhere
    }
    assert "on 2 tasks: " in gist.text
    assert gist.text.endswith("; 1 not discriminative and not counted; no prompt flipped")


def test_two_runs_that_both_guess_are_not_called_equivalent(compared):
    nothing = answering(RUN, gist="0" * 10)
    (row,) = pair(compared(nothing, nothing), "gist").rows
    assert row.verdict == "both guess"


def test_an_arm_can_be_set_against_another_arm_of_the_reference(compared):
    found = compared(BEFORE, AFTER, arms=("gist:full",))
    (one,) = found.pairs
    assert (one.first, one.second) == ("gist of B", "full of A")
    (row,) = one.rows
    # full of A is right on samples whose (index * 7) % 10 is below 4: 0, 1? no: 0, 3, 6, 9.
    assert (row.both, row.only_first, row.only_second, row.neither) == (1, 3, 3, 3)
    assert found.accuracy[0].groups[0].title == "gist against full of the reference"


def test_controls_get_rates_and_no_verdicts(compared):
    found = compared(BEFORE, AFTER)
    assert {one.arm for one in found.pairs} == {"gist", "full"}
    assert [group.title for group in found.controls.groups] == ["swapped", "none"]


def test_a_leak_takes_the_verdict_from_gist_alone_and_stands_on_top(compared):
    leaking = AFTER.but(num_samples=40, hits={**RUN.hits, "gist": 40, "swapped": 30})
    leaking = leaking.but(sample_change=None)
    found = compared(RUN.but(num_samples=40), leaking)
    (line,) = found.invalid
    assert line.startswith("B: swapped on niah_passkey")
    gist = pair(found, "gist")
    assert gist.rows == ()
    assert gist.unpaired[0].reason.startswith("INVALID-LEAK in B")
    assert pair(found, "full").rows
    assert found.checks[0].run == "B"
    assert found.checks[0].check.status == "INVALID-LEAK"


def test_an_arm_that_nobody_has_is_refused_with_what_there_is(compared):
    with pytest.raises(UsageError, match=r"'gits': the reference has no arm 'gits'; did you mean"):
        compared(BEFORE, AFTER, arms=("gits",))
    with pytest.raises(
        UsageError, match="swapped is a control, which is shown and gets no verdict"
    ):
        compared(BEFORE, AFTER, arms=("swapped",))
    without = RUN.but(hits={"gist": 10, "swapped": 0, "none": 0})
    with pytest.raises(UsageError, match="the later runs have no arm 'full'; known: gist"):
        compared(BEFORE, without, arms=("full",))


def test_runs_without_an_arm_in_common_are_refused(compared):
    gist = RUN.but(hits={"gist": 10, "swapped": 0, "none": 0})
    full = RUN.but(hits={"full": 4, "none": 0})
    with pytest.raises(UsageError, match=r"no arm in common .* --arms ARM:ARM"):
        compared(full, gist)
    found = compared(full, gist, arms=("gist:full",))
    assert found.pairs[0].rows[0].verdict == "better"


def test_an_arm_that_one_of_three_runs_lacks_says_so(compared):
    without = RUN.but(hits={"gist": 10, "swapped": 0, "none": 0})
    found = compared(BEFORE, AFTER, without)
    assert {(one.run, one.arm) for one in found.pairs} == {
        ("B", "gist"),
        ("C", "gist"),
        ("B", "full"),
    }
    full = next(group for group in found.accuracy[0].groups if group.title == "full")
    assert [cell.not_measured for cell in full.rows[0].cells[3:]] == ["C has no arm full"] * 2


def test_many_arms_leave_the_main_ones_open_and_the_rivals_behind(compared):
    arms = ("gist", "full", *(f"truncate-{n}" for n in (10, 20, 30, 40, 50)), "swapped", "none")
    ladder = LadderRun(tasks=("niah_passkey",), arms=arms)
    found = compared(ladder, ladder)
    assert [group.title for group in found.accuracy[0].groups] == ["gist", "full"]
    assert len(found.rivals) == len(found.rival_costs) == 5
    assert {one.arm for one in found.pairs if one.main} == {"gist", "full"}
    assert len(found.headlines) == 2


def test_a_killed_run_is_compared_on_what_it_answered(compared):
    def killed(sample):
        return None if sample.arm == "full" and sample.index >= 6 else sample

    found = compared(RUN, RUN.but(sample_change=killed))
    (row,) = pair(found, "full").rows
    assert (row.difference.n, row.unpaired) == (6, 4)
    assert any("4 samples of arm full are missing" in one.check.text for one in found.checks)


def test_swapped_gists_that_were_not_swapped_take_the_verdict_of_their_task_alone(compared):
    run = RUN.but(tasks=("niah_passkey", "niah_passkey_ko"))

    def own_gists(sample):
        if sample.arm == "swapped" and sample.task == "niah_passkey_ko":
            return sample.model_copy(update={"donor_sample_id": sample.sample_id})
        return sample

    gist = pair(compared(run, run.but(sample_change=own_gists)), "gist")
    assert [row.task for row in gist.rows] == ["niah_passkey"]
    (missing,) = gist.unpaired
    assert missing.task == "niah_passkey_ko"
    assert missing.reason.startswith("INVALID in B: swapped on niah_passkey_ko: not a control")


def test_folders_are_read_where_they_lie(tmp_path: Path, compared):
    compared(BEFORE, AFTER)
    assert sorted(path.name for path in (tmp_path / "A").iterdir()) == [
        "memory.jsonl",
        "run.json",
        "samples.jsonl",
    ]
