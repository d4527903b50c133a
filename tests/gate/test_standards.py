"""Claims about what a run is held to: controls, criteria that were met, and claims of a policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from gistbench.errors import UsageError
from gistbench.gate.accepting import accept
from gistbench.gate.findings import Finding, GateReport
from gistbench.gate.gating import gate
from gistbench.gate.policy import load_policy
from gistbench.gate.shown import shown_verdict
from gistbench.records import SampleRecord
from tests.fixtures.synthetic_run import SyntheticRun

ROOT = Path(__file__).resolve().parents[2]
SEED_CLAIMS = ROOT / "baselines" / "seed-claims.yaml"
RUN = SyntheticRun(num_samples=400, hits={"gist": 380, "full": 160, "swapped": 0, "none": 0})


def against(tmp_path: Path, before: SyntheticRun, after: SyntheticRun) -> GateReport:
    path = accept(before.write(tmp_path / "a"), name="main", reason="first", folder=tmp_path)
    return gate(after.write(tmp_path / "b"), path)


def of(report: GateReport, check: str) -> dict[str, Finding]:
    return {found.subject: found for found in report.findings if found.check == check}


def test_a_leak_is_a_regression_with_a_baseline_and_without(tmp_path: Path) -> None:
    leaking = RUN.but(hits={"gist": 380, "full": 160, "swapped": 0, "none": 40})
    report = against(tmp_path, RUN, leaking)
    assert of(report, "controls")["none"].verdict == "regression"
    assert of(report, "controls")["swapped"].verdict == "pass"
    alone = gate(tmp_path / "b", None, SEED_CLAIMS)
    assert of(alone, "controls")["none"].verdict == "regression"


def test_a_control_that_guesses_is_no_leak_by_chance_and_no_pass_either(tmp_path: Path) -> None:
    """At a chance floor of 1/4: 30 % is above it, interval and all, and could be 24 % again."""

    def other_guesses(sample: SampleRecord) -> SampleRecord:
        if sample.arm != "none":
            return sample
        right = (sample.index * 7) % 400 >= 280
        return sample.model_copy(update={"scores": {"exact_match": float(right)}})

    guessing = RUN.but(
        hits={"gist": 380, "full": 160, "swapped": 98, "none": 98},
        task_changes={"chance_floor": 0.25},
    )
    lucky = guessing.but(sample_change=other_guesses)
    found = of(against(tmp_path / "x", guessing, lucky), "controls")["none"]
    assert found.verdict == "inconclusive"
    assert "right in 120 of 400" in found.text
    leaking = guessing.but(hits={"gist": 380, "full": 160, "swapped": 98, "none": 130})
    found = of(against(tmp_path / "y", guessing, leaking), "controls")["none"]
    assert found.verdict == "regression"  # 32 gained and none lost


def test_a_missing_control_is_refused(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("cells: {arms: [gist]}\ncriteria: {keep: false}", encoding="utf-8")
    path = accept(RUN.write(tmp_path / "a"), name="main", reason="first", folder=tmp_path)
    run = RUN.but(hits={"gist": 380}).write(tmp_path / "b")
    report = gate(run, path, policy)
    assert {f.verdict for f in of(report, "controls").values()} == {"refused"}
    assert report.exit_code == 2


def test_a_criterion_that_was_met_must_be_met_still(tmp_path: Path) -> None:
    slower = ((900, 1400), (880, 1410), (910, 1405))
    report = against(tmp_path, RUN, RUN.but(round_speeds=slower))
    assert of(report, "criteria")["throughput"].verdict == "regression"
    assert of(report, "criteria")["vram"].verdict == "pass"


def test_a_criterion_that_nobody_measures_any_more_is_refused(tmp_path: Path) -> None:
    report = against(tmp_path, RUN, RUN.but(contexts=16))
    assert of(report, "criteria")["vram"].verdict == "refused"


def test_a_criterion_that_is_open_now_is_inconclusive_with_the_n(tmp_path: Path) -> None:
    """95 % of 400 is above 90 %; 92 % is not decided, and loses too little to be a regression."""
    path = accept(RUN.write(tmp_path / "a"), name="main", reason="first", folder=tmp_path)
    weaker = RUN.but(hits={"gist": 376, "full": 160, "swapped": 0, "none": 0})
    assert gate(weaker.write(tmp_path / "b"), path).verdict == "pass"
    open_ = RUN.but(hits={"gist": 370, "full": 160, "swapped": 0, "none": 0})
    found = of(gate(open_.write(tmp_path / "c"), path), "criteria")["passkey_accuracy"]
    assert found.verdict == "inconclusive"
    assert found.n_needed is not None and found.n_needed > 400


def test_the_seed_claims_hold_what_the_seed_expected() -> None:
    claims = {claim.id: claim for claim in load_policy(SEED_CLAIMS).claims}
    bounds = {name: (claim.threshold.kind, claim.threshold.value) for name, claim in claims.items()}
    assert bounds == {
        "passkey_expected": ("at least", 0.70),
        "passkey_target": ("above", 0.90),
        "compression": ("at least", 492),
        "memory": ("at least", 1 - 6 / 24),
        "throughput": ("at least", 3.0),
        "global_understanding": ("at least", 0.90),
        "hallucination": ("at most", 0.10),
    }


def test_a_run_can_be_asked_which_of_the_seed_claims_it_meets() -> None:
    run = ROOT / "results" / "published" / "smollm2-135m-gist-10"
    report = gate(run, None, SEED_CLAIMS)
    found = {title: shown_verdict(finding) for title, finding in of(report, "claims").items()}
    assert found == {
        "passkey accuracy, 70 to 85 % expected": "met",
        "passkey accuracy, target above 90 %": "met",
        "compression 492x, 4,925 tokens to 10": "met",
        "6 GB against 24 GB": "met",
        "throughput 3x full context": "not met",
        "global context understanding good": "not measured",
        "hallucination medium": "not measured",
    }
    assert report.exit_code == 1


def test_claims_alone_take_no_baseline(tmp_path: Path) -> None:
    run = RUN.write(tmp_path / "run")
    with pytest.raises(UsageError, match="leave out --baseline"):
        gate(run, tmp_path / "main.json", SEED_CLAIMS)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("compare: false", "nothing would be asked"),
        ("acuracy: {margin: 0.1}", "did you mean 'accuracy'"),
        ("accuracy: {margn: 0.1}", "did you mean 'margin'"),
        ("accuracy: {margin: 2}", "accuracy.margin: input should be less than 1, got 2"),
        ("time: {repeats: 1}", "time.repeats"),
        ("accuracy: [", "line 1"),
        ("claims: [{id: a, title: a, criterion: vram}]", "exactly one of at_least, above, at_most"),
    ],
)
def test_a_wrong_policy_is_one_sentence(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"policy\.yaml") as refused:
        load_policy(path)
    assert named in str(refused.value) and "\n" not in str(refused.value)


def test_a_claim_names_a_criterion(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"  # JSON is YAML
    path.write_text(
        '{"compare": false, "claims": [{"id": "a", "title": "a", "criterion": "vrma", '
        '"at_least": 0.1}]}',
        encoding="utf-8",
    )
    with pytest.raises(UsageError, match="did you mean 'vram'"):
        gate(RUN.write(tmp_path / "run"), None, path)


def test_every_default_stands_in_the_shipped_file() -> None:
    """Nothing is left to a default in code: an empty policy file changes nothing."""
    policy = load_policy()
    for part in (policy, policy.accuracy, policy.time, policy.device_memory, policy.cells):
        assert all(field.is_required() for field in type(part).model_fields.values())
