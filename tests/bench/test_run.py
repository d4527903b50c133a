"""Claims about runs, their workers in this process; test_processes.py has real ones."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gistbench.arms.names import with_controls
from gistbench.bench.run import MIN_SAMPLES, run, samples_for
from gistbench.config import RunConfig
from gistbench.errors import GistbenchError, UsageError
from gistbench.records import MemoryRecord, NotMeasured, RunRecord, SampleRecord
from gistbench.storage import read_json, read_jsonl
from tests.fixtures.in_process import InProcess, SilentDisplay
from tests.fixtures.tiny_base import CONTEXT_TOKENS, NUM_GISTS, tiny_config

Settings = Callable[..., RunConfig]
ARMS = ("gist", "full", "swapped", "none")
KV_BYTES = 2 * 2 * 2 * 16 * 4  # keys and values, layers, heads, head_dim, float32


def start(config: RunConfig, folder: Path, display: SilentDisplay | None = None) -> RunRecord:
    run(config, folder, display=display or SilentDisplay(), command="gistbench run")
    return read_json(folder / "run.json", RunRecord)


def samples_of(folder: Path) -> list[SampleRecord]:
    return list(read_jsonl(folder / "samples.jsonl", SampleRecord))


def without_times(folder: Path) -> list[dict[str, Any]]:
    return [record.model_dump(exclude={"timing"}) for record in samples_of(folder)]


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path
) -> tuple[Path, RunRecord, InProcess]:
    """One complete run, for all the tests that only look."""
    import gistbench.bench.run as bench_run

    folder = tmp_path_factory.mktemp("finished") / "run"
    workers = InProcess()
    config = RunConfig(
        checkpoint=str(tiny_checkpoint),
        context_tokens=CONTEXT_TOKENS,
        samples=6,
        device="cpu",
        dtype="float32",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_run, "run_worker", workers)
        record = start(config, folder)
    return folder, record, workers


Finished = tuple[Path, RunRecord, InProcess]


# ------------------------------------------------------------------------------------ what is left


def test_a_run_holds_the_arms_asked_for_and_both_controls(finished: Finished) -> None:
    folder, record, _ = finished
    assert tuple(arm.name for arm in record.arms) == ARMS
    assert all(arm.complete and arm.num_samples == 6 for arm in record.arms)
    weights = {arm.name: arm.weights for arm in record.arms}
    assert weights == {
        "gist": "base+adapter",
        "full": "base",
        "swapped": "base+adapter",
        "none": "base+adapter",
    }
    trained = {arm.name: arm.trained_on for arm in record.arms}
    assert trained["full"] == ()
    assert trained["gist"] == ("niah_passkey",)
    assert sorted(path.name for path in folder.iterdir()) == [
        "memory.jsonl",
        "run.json",
        "samples.jsonl",
    ]


def test_every_arm_answers_the_same_samples_in_the_same_order(finished: Finished) -> None:
    records = samples_of(finished[0])
    by_arm = {
        arm: [(r.sample_id, r.prompt_sha256, r.expected) for r in records if r.arm == arm]
        for arm in ARMS
    }
    assert len(by_arm["gist"]) == 6
    assert all(by_arm[arm] == by_arm["gist"] for arm in ARMS)
    assert len({prompt for _, prompt, _ in by_arm["gist"]}) == 6


def test_cache_sizes_are_exact(finished: Finished) -> None:
    slots = {"gist": NUM_GISTS, "swapped": NUM_GISTS, "full": CONTEXT_TOKENS, "none": 0}
    for record in samples_of(finished[0]):
        assert record.context_tokens == CONTEXT_TOKENS
        assert record.cache_tokens == slots[record.arm]
        assert record.cache_bytes == slots[record.arm] * KV_BYTES
        assert record.num_gists == (NUM_GISTS if record.arm in ("gist", "swapped") else None)
    assert finished[1].base.key_value_bytes_per_token == KV_BYTES


def test_every_raw_output_is_kept_with_its_scores(finished: Finished) -> None:
    for record in samples_of(finished[0]):
        assert record.output_tokens >= 1
        assert set(record.scores) == {"exact_match", "contains", "digit_accuracy"}
        assert all(0 <= score <= 1 for score in record.scores.values())
        assert "\n" not in record.output
        assert "." not in record.output
        assert record.excerpt_needle in record.excerpt
        assert record.expected in record.excerpt_needle
        assert record.depth is not None
        assert 0 <= record.depth <= 1


def test_only_arms_that_read_contexts_have_a_time_of_reading(finished: Finished) -> None:
    for record in samples_of(finished[0]):
        assert (record.timing.compress_seconds is not None) == (record.arm in ("gist", "full"))
        assert record.timing.first_token_seconds > 0


def test_swapped_uses_donors_with_another_answer(finished: Finished) -> None:
    records = samples_of(finished[0])
    expected = {record.sample_id: record.expected for record in records}
    for record in records:
        if record.arm != "swapped":
            assert record.donor_sample_id is None
            continue
        assert record.donor_sample_id is not None
        assert expected[record.donor_sample_id] != record.expected


def test_what_needs_a_gpu_is_not_measured_and_says_why(finished: Finished) -> None:
    _, record, workers = finished
    for arm in record.arms:
        for quantity in (arm.steady_one, arm.steady_many, arm.throughput_rounds):
            assert isinstance(quantity, NotMeasured)
            assert "GPU" in quantity.not_measured
        assert arm.phases
        for phase in arm.phases:
            assert isinstance(phase.device_used_peak_bytes, NotMeasured)
            assert isinstance(phase.resident_peak_bytes, int)
        assert arm.weights_bytes > 0
    assert {job.mode for job in workers.jobs} == {"probe", "evaluate"}


def test_memory_is_sampled_in_every_arm(finished: Finished) -> None:
    ticks = list(read_jsonl(finished[0] / "memory.jsonl", MemoryRecord))
    assert {tick.arm for tick in ticks} == set(ARMS)
    assert all(tick.resident_bytes and tick.device_used_bytes is None for tick in ticks)


def test_the_record_says_what_ran(finished: Finished, tiny_checkpoint: Path) -> None:
    record = finished[1]
    assert record.settings["checkpoint"] == str(tiny_checkpoint)
    assert record.base.dtype == "float32"
    assert record.checkpoint is not None
    assert record.checkpoint.num_gists == NUM_GISTS
    (task,) = record.tasks
    assert (task.name, task.num_samples, task.context_tokens) == ("niah_passkey", 6, CONTEXT_TOKENS)
    assert task.generation["do_sample"] is False
    assert record.provenance.packages["torch"]


def test_batches_change_no_answer(
    finished: Finished, settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    start(settings(batch_size=4), tmp_path)
    assert without_times(tmp_path) == without_times(finished[0])
    per_batch = {record.timing.batch_size for record in samples_of(tmp_path)}
    assert per_batch == {4, 2}


def test_the_static_loop_changes_no_answer_and_the_record_says_which_loop_it_was(
    finished: Finished, settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    record = start(settings(decoding="static"), tmp_path)
    assert without_times(tmp_path) == without_times(finished[0])
    assert (record.settings["decoding"], finished[1].settings["decoding"]) == ("static", "eager")
    assert {job.decoding for job in in_process.jobs} == {"static"}
    assert "include them, in every arm" in record.notes[-1]


def test_a_run_without_gists_needs_no_checkpoint(
    settings: Settings, in_process: InProcess, tmp_path: Path, tiny_base: Path
) -> None:
    record = start(
        settings(models=("full",), checkpoint=None, base=str(tiny_base), samples=2), tmp_path
    )
    assert [(arm.name, arm.weights) for arm in record.arms] == [("full", "base"), ("none", "base")]
    assert record.checkpoint is None


def test_a_run_of_one_sample_is_refused_where_it_has_a_swapped_control(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    """One sample has no donor with another answer."""
    with pytest.raises(UsageError, match="samples"):
        start(settings(samples=1), tmp_path / "run")


# ---------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("answered", [2, pytest.param(9, marks=pytest.mark.slow)])
def test_a_stopped_run_goes_on_where_it_stopped_and_gives_the_same_samples(
    finished: Finished,
    settings: Settings,
    in_process: InProcess,
    tmp_path: Path,
    answered: int,
) -> None:
    in_process.stop_after = answered
    with pytest.raises(KeyboardInterrupt):
        start(settings(), tmp_path)
    assert not (tmp_path / "run.json").exists()
    in_process.stop_after = None
    display = SilentDisplay()
    start(settings(), tmp_path, display)
    assert without_times(tmp_path) == without_times(finished[0])
    assert len(in_process.answered) == len(set(in_process.answered)) == 4 * 6
    assert any("going on" in text for text in display.said)


def test_a_finished_run_is_left_alone(
    finished: Finished, settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished[0], tmp_path / "run"))
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    display = SilentDisplay()
    start(settings(), folder, display)
    assert in_process.jobs == []
    assert "nothing to do" in display.said[0]
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "changes", [{"samples": 7}, {"seed": 1}, {"models": ("full",)}, {"dtype": "bfloat16"}]
)
def test_other_settings_are_refused_in_a_used_folder_by_name(
    finished: Finished, settings: Settings, in_process: InProcess, changes: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=next(iter(changes))) as caught:
        start(settings(**changes), finished[0])
    assert "--output" in str(caught.value)
    assert in_process.jobs == []


def test_other_settings_are_refused_in_an_unfinished_folder_too(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    in_process.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        start(settings(), tmp_path)
    in_process.stop_after = None
    with pytest.raises(UsageError, match="seed 0, now 3"):
        start(settings(seed=3), tmp_path)


def test_an_unfinished_run_of_a_version_with_fewer_settings_goes_on(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    in_process.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        start(settings(samples=2), tmp_path)
    in_process.stop_after = None
    path = tmp_path / "work" / "settings.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    assert fields.pop("split") == "test"
    path.write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(UsageError, match="split"):
        start(settings(samples=2, split="validation"), tmp_path)
    start(settings(samples=2), tmp_path)
    assert len(in_process.answered) == len(set(in_process.answered))


def test_an_unfinished_run_goes_on_without_an_arm_and_names_it(
    finished: Finished, settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    in_process.stop_after = 8
    with pytest.raises(KeyboardInterrupt):
        start(settings(models=("gist", "truncate-8", "full")), tmp_path)
    for models in (("gist", "mean-pool-8", "full"), ("gist", "full", "mean-pool-4")):
        in_process.stop_after = len(in_process.answered) + 1
        with pytest.raises(KeyboardInterrupt):
            start(settings(models=models), tmp_path)
    in_process.stop_after = None
    record = start(settings(models=("gist", "full")), tmp_path)
    # Its answers are those of a run that never knew the other arms, and none was given twice.
    assert without_times(tmp_path) == without_times(finished[0])
    assert len(in_process.answered) == len(set(in_process.answered))
    left_out = "truncate-8, mean-pool-8, mean-pool-4"
    assert record.notes[-1] == f"begun with arms that were left out later: {left_out}"


def test_a_setting_that_was_refused_can_be_mended_in_the_same_folder(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    """The error names the flag to change; the same --output must then work."""
    with pytest.raises(UsageError, match="exceeds the 1,024 positions"):
        start(settings(context_tokens=1020), tmp_path)
    start(settings(samples=2), tmp_path)


def test_a_checkpoint_that_changed_meanwhile_is_never_mixed_with_the_old_one(
    tiny_base: Path, settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    """Trained anew in the same folder, between a kill and the resumption."""
    from gistbench.training.run import train

    checkpoint, folder = tmp_path / "checkpoint", tmp_path / "run"
    train(tiny_config(tiny_base, training={"max_steps": 1}), checkpoint, device="cpu")
    in_process.stop_after = 8  # the gist arm is done, full has begun
    with pytest.raises(KeyboardInterrupt):
        start(settings(checkpoint=str(checkpoint)), folder)
    in_process.stop_after = None
    shutil.rmtree(checkpoint)
    other = tiny_config(tiny_base, training={"max_steps": 3, "learning_rate": 0.05})
    train(other, checkpoint, device="cpu")
    with pytest.raises(UsageError, match="checkpoint"):
        start(settings(checkpoint=str(checkpoint)), folder)


def test_a_line_cut_short_by_a_full_disk_is_answered_again(
    finished: Finished, settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    in_process.stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        start(settings(), tmp_path)
    answers = tmp_path / "work" / "gist.answers.jsonl"
    whole = answers.read_bytes()
    answers.write_bytes(whole[:-40])
    in_process.stop_after = None
    start(settings(), tmp_path)
    assert without_times(tmp_path) == without_times(finished[0])
    assert sum(arm == "gist" for arm, _ in in_process.answered) == 4 + 1 + 2


def test_a_full_disk_is_one_sentence_and_loses_nothing(
    finished: Finished,
    settings: Settings,
    in_process: InProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gistbench.evaluation import answers

    calls = 0
    real = os.fsync

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(answers, "os", type("os", (), {"fsync": staticmethod(full)}))
        with pytest.raises(UsageError, match="no space left on device") as caught:
            start(settings(), tmp_path)
    assert "run the same command to continue" in str(caught.value)
    assert len((tmp_path / "work" / "gist.answers.jsonl").read_text().splitlines()) >= 3
    start(settings(), tmp_path)
    assert without_times(tmp_path) == without_times(finished[0])
    assert len(in_process.answered) <= 4 * 6


# -------------------------------------------------------------------------------------- refusals


def refusal(config: RunConfig, folder: Path) -> str:
    with pytest.raises(GistbenchError) as caught:
        start(config, folder)
    text = str(caught.value)
    assert "\n" not in text
    assert not (folder / "run.json").exists()
    return text


def test_a_second_process_in_the_same_folder_is_refused_and_the_first_goes_on(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    code = f"""
from pathlib import Path
from gistbench.storage import only_process
with only_process(Path({str(tmp_path / "run")!r})):
    print("in", flush=True)
    input()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "in\n"
    with pytest.raises(UsageError, match="another process is at work"):
        start(settings(), tmp_path / "run")
    assert in_process.jobs == []
    other.kill()
    other.wait()
    start(settings(), tmp_path / "run")


def test_a_folder_used_by_something_else_is_refused(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    assert "in use by something else" in refusal(settings(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_as_output_is_refused(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot write"):
        start(settings(), path)
    assert path.read_text(encoding="utf-8") == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    assert "permission denied" in refusal(settings(), tmp_path / "run")


def test_an_unwritable_folder_is_refused(settings: Settings, in_process: InProcess) -> None:
    assert "cannot write" in refusal(settings(), Path("/proc/gistbench-run"))


def test_names_that_do_not_exist_suggest_the_nearest(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    cases = {
        "did you mean 'gist'?": {"models": ("gits",)},
        "did you mean 'niah_passkey_ko'?": {"tasks": ("niah_paskey_ko",)},
        "did you mean 'smollm2-135m'?": {"base": "smollm2-135"},
        "no gist checkpoint at": {"checkpoint": "smollm2-135m-gist"},
        "names no arm": {"models": ()},
    }
    for said, changes in cases.items():
        folder = tmp_path / "run"
        assert said in refusal(settings(**changes), folder)
        assert not folder.exists(), "refused before anything is written"


@pytest.mark.parametrize("arm", ["gist", "swapped"])
def test_arms_with_gists_need_a_checkpoint(
    settings: Settings, in_process: InProcess, tmp_path: Path, arm: str
) -> None:
    text = refusal(settings(models=(arm,), checkpoint=None), tmp_path / "run")
    assert f"arm {arm} needs a gist checkpoint; pass --checkpoint" in text


def test_a_folder_of_trainings_names_the_checkpoints_in_it(
    settings: Settings, in_process: InProcess, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "checkpoints" / "mine")
    text = refusal(settings(checkpoint=str(tmp_path / "checkpoints")), tmp_path / "run")
    assert str(tmp_path / "checkpoints" / "mine") in text


def test_another_base_than_the_checkpoints_is_refused(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    from tests.fixtures.tiny_base import write_tiny_base

    other = write_tiny_base(tmp_path / "other", seed=1)
    text = refusal(settings(base=str(other)), tmp_path / "run")
    assert "was trained on weights" in text
    assert "--allow-other-precision" in text
    deeper = write_tiny_base(tmp_path / "deeper", num_hidden_layers=3)
    text = refusal(settings(base=str(deeper), allow_other_precision=True), tmp_path / "run2")
    assert "they differ in num_hidden_layers" in text


def test_a_changed_checkpoint_file_is_refused_before_anything_is_loaded(
    settings: Settings, in_process: InProcess, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    copy = Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))
    with (copy / "adapter_model.safetensors").open("ab") as file:
        file.write(b"x")
    assert "changed or damaged" in refusal(settings(checkpoint=str(copy)), tmp_path / "run")
    (copy / "adapter_model.safetensors").unlink()
    assert "lacks adapter_model" in refusal(settings(checkpoint=str(copy)), tmp_path / "run")
    assert in_process.jobs == []


def test_a_context_longer_than_the_positions_is_refused(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    text = refusal(settings(context_tokens=4925), tmp_path)
    assert "exceeds the 1,024 positions" in text
    assert "--context-tokens" in text


def test_a_budget_beyond_the_context_alone_is_refused_before_any_arm_begins(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    text = refusal(settings(models=("truncate-161",)), tmp_path)
    assert "arm truncate-161 cannot keep 161 of 160 context tokens" in text
    assert not in_process.jobs


def test_an_arm_that_cannot_take_part_is_neither_a_failure_nor_a_zero(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    record = start(settings(models=("full", "truncate-161"), samples=2), tmp_path)
    assert tuple(arm.name for arm in record.arms) == ("full", "none")
    (cell,) = record.not_applicable
    assert (cell.arm, cell.context_tokens) == ("truncate-161", CONTEXT_TOKENS)
    assert "cannot keep 161 of 160" in cell.reason


def test_arms_at_once_give_the_answers_of_arms_in_turn_and_claim_no_times(
    finished: Finished, settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    record = start(settings(parallel_arms=3), tmp_path)
    assert without_times(tmp_path) == without_times(finished[0])
    assert {type(sample.timing) for sample in samples_of(tmp_path)} == {NotMeasured}
    for arm in record.arms:
        assert all(isinstance(p.device_used_peak_bytes, NotMeasured) for p in arm.phases)
    # The control waits for the caches that it reuses, and samples are built before all arms.
    order = [(job.mode, job.arm) for job in in_process.jobs]
    assert order.index(("evaluate", "gist")) < order.index(("evaluate", "swapped"))
    assert order[1] == ("prepare", "niah_passkey")


def test_arms_at_once_go_on_in_turn_where_they_stopped(
    finished: Finished, settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    in_process.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        start(settings(parallel_arms=2), tmp_path)
    in_process.stop_after = None
    start(settings(), tmp_path)
    assert without_times(tmp_path) == without_times(finished[0])
    # What was answered beside others keeps no time, whoever goes on.
    untimed = [s for s in samples_of(tmp_path) if isinstance(s.timing, NotMeasured)]
    assert 0 < len(untimed) < len(samples_of(tmp_path))


def test_a_context_too_short_for_the_needle_is_refused(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    assert "ask for at least" in refusal(settings(context_tokens=33), tmp_path)


# ------------------------------------------------------------------------------ arms with a budget


def test_arms_with_a_budget_are_recorded_under_their_whole_name(
    settings: Settings, in_process: InProcess, tiny_base: Path, tmp_path: Path
) -> None:
    models = ("truncate-10", "truncate-64", "mean-pool-10")
    record = start(
        settings(models=models, checkpoint=None, base=str(tiny_base), samples=2), tmp_path
    )
    assert tuple(arm.name for arm in record.arms) == (*models, "none")
    assert "the last 64 tokens" in record.arms[1].description
    assert {arm.weights for arm in record.arms} == {"base"}
    for sample in samples_of(tmp_path):
        slots = {"truncate-10": 10, "truncate-64": 64, "mean-pool-10": 10, "none": 0}[sample.arm]
        assert (sample.cache_tokens, sample.cache_bytes) == (slots, slots * KV_BYTES)
        assert sample.context_tokens == CONTEXT_TOKENS
        assert sample.num_gists is None


def test_the_time_of_one_context_is_taken_where_all_of_it_is_read(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    start(settings(models=("truncate-10", "full"), samples=2), tmp_path)
    probe = in_process.jobs[0]
    assert (probe.mode, probe.arm) == ("probe", "full")


# ------------------------------------------------------------------------------- numbers of samples


def test_a_time_budget_never_gives_fewer_than_six_samples_and_says_so() -> None:
    samples, note = samples_for(RunConfig(time_budget_seconds=1), 11.0, ARMS)
    assert samples == MIN_SAMPLES == 6
    assert "6 samples: one context took 11.0 s" in note
    assert "at least 6" in note


def test_a_larger_budget_gives_more_samples_up_to_the_default() -> None:
    numbers = [samples_for(RunConfig(time_budget_seconds=s), 5.0, ARMS)[0] for s in (100, 400, 1e6)]
    assert numbers[0] < numbers[1] < numbers[2] == 200


def test_a_number_of_samples_that_was_asked_for_is_taken() -> None:
    config = RunConfig(samples=3, time_budget_seconds=1e6)
    assert samples_for(config, 11.0, ARMS) == (3, "")
    assert samples_for(RunConfig(), 11.0, ARMS) == (200, "")


def test_a_budgeted_run_keeps_its_number_of_samples_when_it_goes_on(
    settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    config = settings(samples=None, time_budget_seconds=1.0)
    in_process.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        start(config, tmp_path)
    plan = json.loads((tmp_path / "work" / "samples.json").read_text(encoding="utf-8"))
    in_process.stop_after = None
    record = start(config, tmp_path)
    assert plan["samples"] == 6
    assert [arm.num_samples for arm in record.arms] == [6] * 4
    assert record.notes == (plan["note"],)


def test_gist_comes_first_so_that_swapped_can_reuse_its_caches() -> None:
    assert with_controls(("full", "gist")) == ("gist", "full", "swapped", "none")
    assert with_controls(("none", "gist", "gist")) == ("gist", "none", "swapped")
