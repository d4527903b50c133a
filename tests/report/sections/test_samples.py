"""Every sample can be read: needle marked, cuts counted, scorers that disagree named."""

import hashlib

from gistbench.judgements import Judgement
from gistbench.report.sections import chosen
from gistbench.report.sections.samples import samples_shown
from tests.fixtures.ladder_run import LadderRun


def test_all_answers_are_there_side_by_side(read, gpu_run):
    shown = samples_shown(read(gpu_run))
    assert shown.notes == ("All 160 answers to all 40 prompts are here.",)
    assert shown.heading == "160 answers to 40 prompts"
    (group,) = shown.groups
    first = group.prompts[0]
    assert [answer.arm for answer in first.answers] == ["gist", "full", "swapped", "none"]
    assert [answer.right for answer in first.answers] == [True, True, False, False]
    assert [answer.control for answer in first.answers] == [False, False, True, True]
    assert (first.before, first.needle) == (
        "The harbour was quiet that morning. ",
        "The pass key is 20007.",
    )
    assert first.prompt_sha256 == hashlib.sha256(b"niah_passkey0").hexdigest()
    assert (first.depth, first.part) == ("needle at 1.2 %", "0 to 20 %")
    assert shown.depths[-1] == group.prompts[-1].part == "80 to 100 %"


def test_three_hundred_characters_stay_on_either_side_of_the_needle(read, gpu_run):
    def long(sample):
        excerpt = "a" * 800 + sample.excerpt_needle + "b" * 900
        return sample.model_copy(update={"excerpt": excerpt})

    prompt = samples_shown(read(gpu_run.but(sample_change=long))).groups[0].prompts[0]
    assert (prompt.before, prompt.after) == ("a" * 300, "b" * 300)
    assert prompt.excerpt_cut == "1,100 characters cut"


def test_a_looser_scorer_that_disagrees_is_named(read, gpu_run):
    def contained(sample):
        if (sample.arm, sample.index) != ("full", 3):
            return sample
        return sample.model_copy(update={"scores": {"exact_match": 0.0, "contains": 1.0}})

    shown = samples_shown(read(gpu_run.but(sample_change=contained)))
    disputed = [a for p in shown.groups[0].prompts for a in p.answers if a.differ]
    assert [(a.arm, a.differ) for a in disputed] == [("full", "the expected answer stands in it")]
    assert shown.any_differ
    assert {line.label: line.text for line in shown.counts}["full"].endswith("disagree on 1")
    assert not samples_shown(read(gpu_run)).any_differ


def test_a_judge_that_disagrees_is_named_and_only_of_the_output_it_saw(read, gpu_run):
    evidence = read(gpu_run)
    sample = evidence.samples("gist")[5]

    def judged(output, verdict):
        digest = hashlib.sha256(output.encode()).hexdigest()
        return Judgement(
            kind="answer",
            model="m-1",
            arm="gist",
            task=sample.task,
            sample_id=sample.sample_id,
            output_sha256=digest,
            system="",
            prompt="",
            reply="",
            verdict=verdict,
        )

    def disputes(*judgements):
        shown = samples_shown(evidence, judgements)
        return [a.differ for p in shown.groups[0].prompts for a in p.answers if a.differ]

    assert disputes(judged(sample.output, "wrong")) == ["m-1 calls it wrong"]
    assert disputes(judged(sample.output, "right")) == []
    assert disputes(judged("another output", "wrong")) == []


def test_what_is_not_here_is_named(read, monkeypatch):
    monkeypatch.setattr(chosen, "ALL_ANSWERS", 100)
    run = LadderRun(tasks=("niah_passkey", "niah_update"), lengths=(1024, 512), num_samples=30)
    shown = samples_shown(read(run))
    assert "60 prompts were drawn whatever was answered" in shown.notes[0]
    assert shown.notes[0].startswith(shown.heading.split(" answers")[0] + " of ")
    assert "samples.jsonl" in shown.notes[1]
    assert shown.notes[2] == "Arms with a budget answer here to the drawn prompts alone."
    assert shown.tasks == ("niah_passkey", "niah_update")
    assert shown.lengths == ("512 tokens", "1,024 tokens")
    assert [group.label for group in shown.groups] == [
        "niah_passkey, 1,024 tokens",
        "niah_update, 1,024 tokens",
        "niah_passkey, 512 tokens",
        "niah_update, 512 tokens",
    ]
    assert "of the" in {line.label: line.text for line in shown.counts}["rag-10"]
