"""Global understanding and hallucination: what is counted, and when there is nothing to count."""

import pytest

from gistbench.report.criteria import load_criteria
from gistbench.report.quality import states_wrong_key
from gistbench.report.verdicts import judge_run
from tests.fixtures.ladder_run import LadderRun

WHOLE = LadderRun(
    tasks=("niah_passkey", "document_topic", "word_frequency"),
    arms=("gist", "full-tuned", "swapped", "none"),
    num_samples=200,
)
ABSENT = LadderRun(
    tasks=("niah_passkey", "niah_absent"), arms=("gist", "swapped", "none"), num_samples=200
)


def verdict(evidence, name):
    return {found.id: found for found in judge_run(load_criteria(), evidence)}[name]


def understanding(read, run):
    return verdict(read(run), "global_understanding")


def rates(gist, tuned):
    """Rates of the two arms on document_topic and word_frequency; controls guess."""

    def rate(arm, task, tokens):
        place = {"document_topic": 0, "word_frequency": 1}.get(task)
        if arm in ("swapped", "none"):
            return {0: 0.25, 1: 0.12}.get(place, 0.0)
        return 1.0 if place is None else (gist if arm == "gist" else tuned)[place]

    return rate


@pytest.mark.parametrize(
    ("gist", "outcome", "earned"),
    [
        ((0.96, 0.96), "PASS", 10),
        ((0.80, 0.76), "PASS", 5),
        ((0.70, 0.64), "INCONCLUSIVE", 0),
        ((0.30, 0.20), "FAIL", 0),
    ],
)
def test_understanding_is_gists_mean_rate_over_full_tuneds(read, gist, outcome, earned):
    found = understanding(read, WHOLE.but(rate=rates(gist, (0.96, 0.96))))
    assert found.value == pytest.approx(sum(gist) / 1.92)
    assert (found.outcome, found.earned) == (outcome, earned)
    assert found.n == 400
    assert (found.n_needed is not None) == (outcome == "INCONCLUSIVE")


def test_understanding_weighs_both_tasks_the_same(read):
    found = understanding(read, WHOLE.but(rate=rates((0.9, 0.3), (0.9, 0.6))))
    assert found.value == pytest.approx(1.2 / 1.5)


def test_understanding_needs_full_tuned(read):
    found = understanding(read, WHOLE.but(arms=("gist", "full", "swapped", "none")))
    assert found.outcome == "NOT_MEASURED"
    assert "relative to full-tuned" in found.reason and "--tuned-checkpoint" in found.reason


def test_understanding_needs_a_full_tuned_that_does_better_than_guessing(read):
    found = understanding(read, WHOLE.but(rate=rates((0.9, 0.9), (0.9, 0.13))))
    assert found.outcome == "NOT_MEASURED"
    assert "word_frequency has no upper bound" in found.reason


def test_being_surely_worse_than_guessing_is_no_better_than_guessing(read):
    # 22 % of the topics lie below the floor of 25 %: not at it, and nothing to be proud of.
    run = WHOLE.but(num_samples=2000, rate=rates((0.22, 0.13), (0.28, 0.145)))
    found = understanding(read, run)
    assert found.value == pytest.approx(0.35 / 0.425)
    assert found.outcome == "NOT_MEASURED"
    assert "no better than guessing" in found.reason


def test_understanding_is_not_passed_by_guessing_as_well_as_a_weak_full_tuned(read):
    run = WHOLE.but(num_samples=400, rate=rates((0.28, 0.15), (0.32, 0.175)))
    found = understanding(read, run)
    assert found.value is not None and found.value > 0.85
    assert found.outcome == "NOT_MEASURED"
    assert "no better than guessing" in found.reason


def test_understanding_needs_both_tasks(read):
    found = understanding(read, WHOLE.but(tasks=("niah_passkey", "document_topic")))
    assert found.reason == "word_frequency did not run, and document_topic alone does not decide"


def test_understanding_needs_arms_trained_on_the_same_data(read):
    record = WHOLE.record()
    arms = tuple(
        arm.model_copy(update={"trained_on": ("niah_uuid",)}) if arm.name == "full-tuned" else arm
        for arm in record.arms
    )
    found = understanding(read, WHOLE.but(run_changes={"arms": arms}))
    assert found.outcome == "NOT_MEASURED" and "not the same data" in found.reason


def test_a_leak_blocks_understanding(read):
    def leaking(arm, task, tokens):
        found = rates((0.96, 0.96), (0.96, 0.96))(arm, task, tokens)
        return 0.5 if (arm, task) == ("swapped", "niah_passkey") else found

    found = understanding(read, WHOLE.but(rate=leaking))
    assert found.outcome == "NOT_MEASURED" and "INVALID-LEAK" in found.reason


def outputs(invented, wrong):
    """Gist's answers on niah_absent: so many keys invented, so many wrong ones stated."""

    def change(sample):
        if (sample.arm, sample.task) != ("gist", "niah_absent"):
            return sample
        place, empty = divmod(sample.index, 2)
        output = "none" if empty else sample.expected
        if place < (invented if empty else wrong):
            output = "12345"
        right = float(output == sample.expected)
        scores = {"exact_match": right, "contains": right, "stated_key": 1.0, "said_none": 0.0}
        return sample.model_copy(update={"output": output, "scores": scores})

    return change


@pytest.mark.parametrize(
    ("invented", "wrong", "outcome", "earned"),
    [
        (0, 0, "PASS", 10),  # Wilson's upper limit of 0 of 200 is 1.9 %
        (1, 0, "PASS", 5),
        (5, 5, "PASS", 5),
        (8, 8, "INCONCLUSIVE", 0),
        (100, 0, "FAIL", 0),
        (0, 100, "FAIL", 0),
    ],
)
def test_hallucination_counts_invented_and_wrong_keys_over_all_samples(
    read, invented, wrong, outcome, earned
):
    run = ABSENT.but(sample_change=outputs(invented, wrong))
    found = verdict(read(run), "hallucination_rate")
    assert found.value == (invented + wrong) / 200
    assert (found.outcome, found.earned) == (outcome, earned)
    assert f"{invented} of 100 answers state a key where none is hidden" in found.reason


def test_wrong_keys_on_other_tasks_stand_beside_hallucination_and_do_not_dilute_it(read):
    def change(sample):
        changed = outputs(20, 0)(sample)
        output = "54321" if sample.index < 30 else sample.expected
        passkey = (sample.arm, sample.task) == ("gist", "niah_passkey")
        return changed.model_copy(update={"output": output}) if passkey else changed

    found = verdict(read(ABSENT.but(sample_change=change)), "hallucination_rate")
    assert (found.value, found.n) == (0.1, 200)
    (line,) = found.beside
    assert line.label == "Wrong keys on niah_passkey"
    assert line.text.startswith("30 of 200 (15.0 %")


def test_without_niah_absent_hallucination_is_not_measured(read):
    found = verdict(read(ABSENT.but(tasks=("niah_passkey",))), "hallucination_rate")
    assert found.outcome == "NOT_MEASURED"


@pytest.mark.parametrize(
    ("expected", "output", "wrong"),
    [
        ("12345", " 12345", False),
        ("12345", "12345 it is", False),
        ("12345", "123456", True),
        ("12345", "12345 or 54321", True),
        ("12345", "I do not know", False),
        ("12345", "none", False),
        ("none", "none", False),
        ("none", "no key", False),
        ("none", "7", True),
    ],
)
def test_a_wrong_key_is_any_number_but_the_right_one(expected, output, wrong):
    sample = LadderRun(tasks=("niah_absent",), arms=("gist",), num_samples=1).samples()[0]
    changed = sample.model_copy(update={"expected": expected, "output": output})
    assert states_wrong_key(changed) is wrong
