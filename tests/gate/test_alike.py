"""Claims about refusals: unlike things are not compared, and the sentence says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gistbench.errors import UsageError
from gistbench.gate.accepting import accept
from gistbench.gate.baseline import read_baseline
from gistbench.gate.gating import gate
from gistbench.records import SampleRecord
from tests.fixtures.synthetic_run import SyntheticRun

RUN = SyntheticRun(num_samples=100, hits={"gist": 95, "full": 40, "swapped": 0, "none": 0})


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    run = RUN.write(tmp_path / "accepted")
    return accept(run, name="main", reason="first", folder=tmp_path / "baselines")


def refusal(tmp_path: Path, baseline: Path | None, run: SyntheticRun, policy: str = "") -> str:
    folder, file = run.write(tmp_path / "run"), tmp_path / "policy.yaml"
    file.write_text(policy, encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        gate(folder, baseline, file if policy else None)
    sentence = str(refused.value)
    assert "\n" not in sentence and ";" in sentence  # one sentence, and what to do
    return sentence


def test_the_same_run_is_comparable(tmp_path: Path, baseline: Path) -> None:
    assert gate(RUN.write(tmp_path / "run"), baseline).verdict == "pass"


def base(**changes: Any) -> dict[str, Any]:
    return {"base": RUN.record().base.model_copy(update=changes)}


def checkpoint(**changes: Any) -> dict[str, Any]:
    return {"checkpoint": RUN.record().checkpoint.model_copy(update=changes)}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("run", "named"),
    [
        (RUN.but(run_changes=base(fingerprint="00" * 32)), "base weights"),
        (RUN.but(run_changes=base(dtype="float32")), "dtype bfloat16 there and float32 here"),
        (RUN.but(run_changes=base(quantization="nf4")), "quantisation none there and nf4 here"),
        (RUN.but(run_changes=checkpoint(sha256="00" * 32)), "checkpoint passkey-10"),
        (RUN.but(tasks=("niah_labelled_4",)), "the run has no niah_passkey"),
        (RUN.but(context_tokens=2048), "no niah_passkey at 4,925 tokens"),
        (RUN.but(task_changes={"version": "2"}), "version of niah_passkey 1 there and 2 here"),
        (RUN.but(task_changes={"split": "validation"}), "split of niah_passkey"),
        (RUN.but(task_changes={"seed": 8}), "seed of niah_passkey 7 there and 8 here"),
        (RUN.but(task_changes={"samples_sha256": "00" * 32}), "prompts of niah_passkey"),
        (RUN.but(num_samples=99), "number of samples of niah_passkey 100 there and 99 here"),
        (RUN.but(hits={"gist": 95, "swapped": 0, "none": 0}), "the run has no arm full"),
    ],
)
def test_unlike_runs_are_refused(
    tmp_path: Path, baseline: Path, run: SyntheticRun, named: str
) -> None:
    assert named in refusal(tmp_path, baseline, run)


def test_other_prompts_of_the_same_number_are_refused(tmp_path: Path, baseline: Path) -> None:
    def other_prompt(sample: SampleRecord) -> SampleRecord:
        if sample.index:
            return sample
        return sample.model_copy(update={"prompt_sha256": "0" * 64})

    assert "prompts of" in refusal(tmp_path, baseline, RUN.but(sample_change=other_prompt))


def test_a_missing_baseline_is_a_refusal(tmp_path: Path, baseline: Path) -> None:
    assert "none is named; pass --baseline" in refusal(tmp_path, None, RUN)
    missing = baseline.with_name("mian.json")
    sentence = refusal(tmp_path, missing, RUN)
    assert "no baseline" in sentence and "main.json" in sentence
    assert "is a folder; name a file" in refusal(tmp_path, baseline.parent, RUN)


def test_an_unfinished_run_is_refused(tmp_path: Path, baseline: Path) -> None:
    run = RUN.but(arm_changes={"gist": {"complete": False}})
    assert "not finished" in refusal(tmp_path, baseline, run)


def test_another_checkpoint_may_be_compared_where_the_policy_says_so(
    tmp_path: Path, baseline: Path
) -> None:
    run = RUN.but(run_changes=checkpoint(sha256="00" * 32)).write(tmp_path / "run")
    policy = tmp_path / "policy.yaml"
    policy.write_text("checkpoint: any", encoding="utf-8")
    assert gate(run, baseline, policy).verdict == "pass"


def test_a_policy_may_compare_fewer_arms_and_names_only_known_ones(
    tmp_path: Path, baseline: Path
) -> None:
    run = RUN.but(hits={"gist": 95, "swapped": 0, "none": 0})
    policy = tmp_path / "fewer.yaml"
    policy.write_text("cells: {arms: [gist]}\ncriteria: {keep: false}", encoding="utf-8")
    report = gate(run.write(tmp_path / "one"), baseline, policy)
    assert report.verdict == "pass"
    assert {f.subject for f in report.findings if f.check == "accuracy"} == {"gist on niah_passkey"}
    for empty in ("arms", "tasks"):
        sentence = refusal(tmp_path, baseline, RUN, f"cells: {{{empty}: []}}")
        assert f"cells.{empty}" in sentence
    sentence = refusal(tmp_path, baseline, RUN, "cells: {arms: [gits]}")
    assert "'gits'" in sentence and "did you mean 'gist'" in sentence


def test_memory_on_another_device_is_refused_and_accuracy_is_still_judged(
    tmp_path: Path, baseline: Path
) -> None:
    provenance = RUN.record().provenance.model_copy(update={"device_name": "another card"})
    run = RUN.but(run_changes={"provenance": provenance}).write(tmp_path / "run")
    report = gate(run, baseline)
    assert (report.verdict, report.exit_code) == ("refused", 2)
    refused = [found for found in report.findings if found.verdict == "refused"]
    assert {found.check for found in refused} == {"allocated memory"}
    assert "NVIDIA H200 then and another card now" in refused[0].text
    assert {f.verdict for f in report.findings if f.check == "accuracy"} == {"pass"}
    policy = tmp_path / "policy.yaml"
    policy.write_text("allocated_memory: {required: false}", encoding="utf-8")
    report = gate(run, baseline, policy)
    assert report.verdict == "pass"
    assert {f.verdict for f in report.findings if f.check == "allocated memory"} == {"not compared"}


def test_a_loss_stays_a_regression_where_something_else_is_refused(
    tmp_path: Path, baseline: Path
) -> None:
    provenance = RUN.record().provenance.model_copy(update={"device_name": "another card"})
    run = RUN.but(
        run_changes={"provenance": provenance},
        hits={"gist": 70, "full": 40, "swapped": 0, "none": 0},
    )
    assert gate(run.write(tmp_path / "run"), baseline).verdict == "regression"


def test_what_differs_and_does_not_decide_is_noted(tmp_path: Path, baseline: Path) -> None:
    provenance = RUN.record().provenance.model_copy(
        update={"packages": {"torch": "2.13.0", "transformers": "5.17.0"}}
    )
    run = RUN.but(run_changes={"provenance": provenance}, tasks=("niah_passkey", "niah_labelled_4"))
    report = gate(run.write(tmp_path / "run"), baseline)
    assert report.verdict == "pass"
    assert any("torch 2.11.0 then, 2.13.0 now" in note for note in report.notes)
    assert any("niah_labelled_4 at 4,925 tokens" in note for note in report.notes)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda text: text[: len(text) // 2], "cannot be read as a baseline"),
        (lambda text: text.replace('"gistbench baseline"', '"a poem"'), "is no baseline"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 7'), "version 7"),
        (lambda text: text.replace('"right": 95', '"right": 96'), "outcomes must be 0 or 1"),
        (lambda text: text.replace('"num_samples": 100', '"num_samples": 101'), "prompts must be"),
        (lambda text: text.replace('"reason"', '"raeson"'), "the file was edited"),
    ],
)
def test_a_damaged_baseline_is_refused(
    tmp_path: Path, baseline: Path, damage: Any, named: str
) -> None:
    baseline.write_text(damage(baseline.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UsageError, match=named):
        read_baseline(baseline)
