"""Claims about runs with the arm full-tuned, workers in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gistbench.bench import answering
from gistbench.bench.run import run, samples_for
from gistbench.bench.samples import regenerate
from gistbench.config import RunConfig
from gistbench.errors import GistbenchError, UsageError
from gistbench.models.manifest import read_manifest
from gistbench.records import RunRecord, SampleRecord
from gistbench.storage import read_json, read_jsonl
from gistbench.training.run import train
from tests.fixtures.in_process import InProcess, SilentDisplay
from tests.fixtures.tiny_base import CONTEXT_TOKENS, tiny_config, write_tiny_base

Settings = Callable[..., RunConfig]
MODELS = ("gist", "full", "full-tuned")


def start(config: RunConfig, folder: Path) -> RunRecord:
    run(config, folder, display=SilentDisplay(), command="gistbench run")
    return read_json(folder / "run.json", RunRecord)


def refusal(config: RunConfig, folder: Path) -> str:
    with pytest.raises(GistbenchError) as caught:
        start(config, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def tuned(settings: Settings, tiny_tuned_checkpoint: Path) -> Settings:
    """Settings of a small run with all three arms."""

    def make(**changes: Any) -> RunConfig:
        fields = {"models": MODELS, "tuned_checkpoint": str(tiny_tuned_checkpoint), "samples": 2}
        return settings(**{**fields, **changes})

    return make


def test_a_run_records_each_arms_weights_and_both_checkpoints(
    tuned: Settings,
    in_process: InProcess,
    tiny_checkpoint: Path,
    tiny_tuned_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    identities: dict[str, dict[str, Any]] = {}
    original = answering.ArmLM

    def remember(*arguments: Any, **options: Any) -> Any:
        identities[options["identity"]["arm"]] = options["identity"]
        return original(*arguments, **options)

    monkeypatch.setattr(answering, "ArmLM", remember)
    record = start(tuned(), tmp_path)
    gists, whole = read_manifest(tiny_checkpoint), read_manifest(tiny_tuned_checkpoint)
    assert gists.adapter_sha256 != whole.adapter_sha256

    assert [arm.name for arm in record.arms] == ["gist", "full", "full-tuned", "swapped", "none"]
    (arm,) = (arm for arm in record.arms if arm.name == "full-tuned")
    assert (arm.weights, arm.trained_on) == ("base+adapter", ("niah_passkey",))
    assert arm.complete
    assert record.checkpoint is not None
    assert record.checkpoint.sha256 == gists.adapter_sha256
    assert record.tuned_checkpoint is not None
    assert record.tuned_checkpoint.sha256 == whole.adapter_sha256
    assert (record.tuned_checkpoint.name, record.tuned_checkpoint.num_gists) == ("tuned", 0)
    # A kept answer may come back for the weights that gave it alone.
    assert {name: identity["checkpoint"] for name, identity in identities.items()} == {
        "gist": gists.adapter_sha256,
        "swapped": gists.adapter_sha256,
        "none": gists.adapter_sha256,
        "full-tuned": whole.adapter_sha256,
        "full": None,
    }
    samples = list(read_jsonl(tmp_path / "samples.jsonl", SampleRecord))
    own = [sample for sample in samples if sample.arm == "full-tuned"]
    assert {(sample.cache_tokens, sample.num_gists) for sample in own} == {(CONTEXT_TOKENS, None)}
    assert all(sample.timing.compress_seconds is not None for sample in own)
    prompts = [[s.prompt_sha256 for s in samples if s.arm == name] for name in MODELS]
    assert prompts[0] == prompts[1] == prompts[2]


def test_it_runs_without_gists_on_its_own_checkpoints_base(
    tuned: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    record = start(tuned(models=("full", "full-tuned"), checkpoint=None), tmp_path)
    assert [(arm.name, arm.weights) for arm in record.arms] == [
        ("full", "base"),
        ("full-tuned", "base+adapter"),
        ("none", "base"),
    ]
    assert record.checkpoint is None
    assert record.tuned_checkpoint is not None
    sample = next(iter(read_jsonl(tmp_path / "samples.jsonl", SampleRecord)))
    assert sample.excerpt_needle in regenerate(tmp_path, sample.sample_id)


def test_a_record_of_before_there_was_this_arm_is_still_read(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    config = settings(samples=2)
    start(config, tmp_path)
    path = tmp_path / "run.json"
    old = json.loads(path.read_text(encoding="utf-8"))
    del old["tuned_checkpoint"], old["settings"]["tuned_checkpoint"]
    path.write_text(json.dumps(old), encoding="utf-8")
    assert read_json(path, RunRecord).tuned_checkpoint is None
    in_process.jobs.clear()
    start(config, tmp_path)
    assert in_process.jobs == [], "the run counts as finished"


def test_a_tuned_checkpoint_that_changed_meanwhile_is_never_mixed_with_the_old_one(
    tuned: Settings,
    in_process: InProcess,
    tiny_base: Path,
    tiny_tuned_checkpoint: Path,
    tmp_path: Path,
) -> None:
    folder = Path(shutil.copytree(tiny_tuned_checkpoint, tmp_path / "tuned"))
    config = tuned(models=("full-tuned",), checkpoint=None, tuned_checkpoint=str(folder))
    in_process.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        start(config, tmp_path / "unfinished")
    in_process.stop_after = None
    start(config, tmp_path / "finished")
    shutil.rmtree(folder)
    other = tiny_config(tiny_base, objective="full", training={"max_steps": 1})
    train(other, folder, device="cpu")
    assert "tuned_checkpoint_sha256" in refusal(config, tmp_path / "unfinished")
    with pytest.raises(UsageError, match="changed since"):
        start(config, tmp_path / "finished")


def test_its_contexts_cost_time_in_a_budget() -> None:
    config = RunConfig(time_budget_seconds=300)
    without, with_it = (
        samples_for(config, 1.0, (*arms, "none"))[0] for arms in (("full",), ("full", "full-tuned"))
    )
    assert with_it < without


# ---------------------------------------------------------------------------------------- refusals


def test_without_its_checkpoint_it_is_refused_with_the_next_step(
    tuned: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    text = refusal(tuned(tuned_checkpoint=None), tmp_path / "run")
    assert "arm full-tuned needs a full-context checkpoint; pass --tuned-checkpoint" in text
    assert "`gistbench train --objective full`" in text
    assert not (tmp_path / "run").exists()
    assert in_process.jobs == []


def test_a_checkpoint_without_its_arm_is_refused_with_the_next_step(
    tuned: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    text = refusal(tuned(models=("gist", "full")), tmp_path / "run")
    assert "pass --models gist,full,full-tuned or leave it out" in text


def test_checkpoints_at_the_wrong_flags_are_refused_by_flag(
    tuned: Settings,
    in_process: InProcess,
    tiny_checkpoint: Path,
    tiny_tuned_checkpoint: Path,
    tmp_path: Path,
) -> None:
    text = refusal(tuned(checkpoint=str(tiny_tuned_checkpoint)), tmp_path / "run")
    assert text.startswith("--checkpoint tuned was trained with objective full")
    text = refusal(tuned(tuned_checkpoint=str(tiny_checkpoint)), tmp_path / "run")
    assert text.startswith("--tuned-checkpoint tiny was trained with objective gist")
    assert "`gistbench train --objective full`" in text
    text = refusal(tuned(tuned_checkpoint="nothing"), tmp_path / "run")
    assert "no full-context checkpoint at 'nothing'" in text
    assert not (tmp_path / "run").exists()


def test_checkpoints_on_different_bases_are_refused_before_any_arm_runs(
    tuned: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    for name, change in (("weights", {"seed": 1}), ("layers", {"num_hidden_layers": 3})):
        base = write_tiny_base(tmp_path / name, **change)
        other = tiny_config(base, objective="full", training={"max_steps": 1})
        folder = train(other, tmp_path / f"{name}-tuned", device="cpu")
        text = refusal(tuned(tuned_checkpoint=str(folder)), tmp_path / "run")
        assert "name two that were trained on the same base model" in text
    assert in_process.jobs == []


def test_lm_eval_refuses_it_without_its_checkpoint_too(tiny_base: Path) -> None:
    from gistbench.bench.lm_eval_cli import GistbenchLM

    with pytest.raises(UsageError, match="tuned_checkpoint=NAME_OR_FOLDER"):
        GistbenchLM(arm="full-tuned", base=str(tiny_base), dtype="float32", device="cpu")


def test_an_unfinished_run_goes_on_without_full_tuned_and_its_checkpoint(
    tuned: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    in_process.stop_after = 5
    with pytest.raises(KeyboardInterrupt):
        start(tuned(), tmp_path / "run")
    in_process.stop_after = None
    record = start(tuned(models=("gist", "full"), tuned_checkpoint=None), tmp_path / "run")
    assert record.tuned_checkpoint is None
    assert record.notes[-1].endswith("left out later: full-tuned")
