"""A rate belongs to a task at a length; what was not asked is not missing."""

import pytest

from gistbench.errors import UsageError
from gistbench.records import NotApplicable
from gistbench.report.criteria import load_criteria
from gistbench.report.evidence import load_evidence
from gistbench.report.scorecard import build_scorecard
from gistbench.storage import MEMORY_FILE, SAMPLES_FILE, pack
from tests.fixtures.ladder_run import LadderRun

SMALL = LadderRun(
    tasks=("niah_passkey", "niah_update"),
    lengths=(1024, 512),
    arms=("gist", "full", "swapped", "none"),
    num_samples=20,
)


def test_a_task_at_two_lengths_is_two_cells_judged_at_the_first(read):
    evidence = read(SMALL)
    labels = [evidence.label(task) for task in evidence.run.tasks]
    assert labels == [
        "niah_passkey, 1,024 tokens",
        "niah_update, 1,024 tokens",
        "niah_passkey, 512 tokens",
        "niah_update, 512 tokens",
    ]
    judged = evidence.task("niah_passkey")
    assert judged is not None and judged.context_tokens == 1024
    assert {sample.context_tokens for sample in evidence.samples("gist", judged)} == {1024}
    assert len(evidence.samples("gist")) == 80
    assert len(evidence.judged_samples("gist")) == 40


def test_criteria_never_mix_lengths(read):
    def worse_when_long(arm, task, tokens):
        return 1.0 if tokens == 1024 and arm == "gist" else 0.0

    card = build_scorecard(read(SMALL.but(rate=worse_when_long)), load_criteria())
    found = {verdict.id: verdict for verdict in card.verdicts}
    assert (found["passkey_accuracy"].value, found["passkey_accuracy"].n) == (1.0, 20)
    assert found["compression_ratio"].value == 102.4


def test_a_cell_that_is_not_applicable_is_not_missing(read):
    reason = "the model reads at most 512 tokens"
    out = NotApplicable(arm="full", context_tokens=1024, reason=reason)
    evidence = read(SMALL.but(not_applicable=(out,)))
    long, short = evidence.run.tasks[0], evidence.run.tasks[2]
    assert evidence.not_applicable("full", long) == reason
    assert evidence.not_applicable("full", short) is None
    assert evidence.missing("full") == 0


def test_in_a_merged_run_only_what_a_part_asked_for_can_be_missing(read):
    def without_update(sample):
        return None if (sample.arm, sample.task) == ("full", "niah_update") else sample

    run = SMALL.but(sample_change=without_update)
    assert read(run).missing("full") == 40
    parts = run.record().parts
    fewer = [p.model_copy(update={"arms": ("gist", "swapped", "none")}) for p in parts]
    only = [p.model_copy(update={"arms": ("full",), "tasks": ("niah_passkey",)}) for p in parts]
    run = run.but(run_changes={"parts": (*fewer, *only)})
    assert read(run).missing("full") == 0


@pytest.mark.parametrize(
    ("tokens", "problem"),
    [(None, "does not say at which length"), (700, "at 700 tokens, which run.json does not list")],
)
def test_a_sample_of_no_known_length_is_one_sentence(tmp_path, tokens, problem):
    def lost(sample):
        return sample.model_copy(update={"nominal_tokens": tokens})

    with pytest.raises(UsageError, match=problem):
        load_evidence(SMALL.but(sample_change=lost).write(tmp_path / "run"))


def test_the_same_sample_may_stand_at_two_lengths_and_not_twice_at_one(tmp_path):
    def renamed(sample):
        return sample.model_copy(update={"sample_id": f"{sample.task}/{sample.index}"})

    folder = SMALL.but(sample_change=renamed).write(tmp_path / "run")
    assert len(load_evidence(folder).samples("gist")) == 80
    path = folder / "samples.jsonl"
    text = path.read_text()
    path.write_text(text + text.splitlines()[0] + "\n")
    with pytest.raises(UsageError, match="stands there twice"):
        load_evidence(folder)


def test_a_packed_run_is_read_as_the_same_run(tmp_path):
    folder = SMALL.write(tmp_path / "run")
    plain = load_evidence(folder)
    for name in (SAMPLES_FILE, MEMORY_FILE):
        pack(folder / name)
    assert load_evidence(folder) == plain
    assert plain.memory
