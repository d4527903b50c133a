"""Claims about the command line: what it prints, and one sentence for what the user can mend."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gistbench.arms.names import ARM_NAMES
from gistbench.cli import main
from gistbench.config import TrainConfig
from gistbench.errors import GistbenchError, UsageError
from gistbench.records import SampleRecord
from gistbench.storage import read_jsonl
from tests.fixtures.tiny_base import write_tiny_base

ROOT = Path(__file__).resolve().parents[2]

Command = Callable[..., str]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in an empty folder, so that a default --output harms nothing."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def succeed(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command that must succeed; gives what it prints."""

    def run(*words: object) -> str:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        captured = capfd.readouterr()
        assert end.value.code in (0, None), captured.err
        return captured.out

    return run


@pytest.fixture
def fail(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command that must be refused: exit code 2, one line on stderr. Gives its sentence."""
    monkeypatch.delenv("COLUMNS")  # as when stderr is a file: a line stays a line

    def run(*words: object) -> str:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        captured = capfd.readouterr()
        assert end.value.code == 2
        lines = captured.err.splitlines()
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("gistbench: ")
        assert "pydantic" not in lines[0], "a sentence for the user, not the validator's"
        assert captured.out == ""
        return lines[0].removeprefix("gistbench: ")

    return run


# -------------------------------------------------------------------------------------- listings


def test_help_waits_for_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "gistbench", "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    for command in ("train", "run", "scorecard", "sample", "plan", "models", "tasks", "lm-eval"):
        assert command in done.stdout
    loaded = {line.split("|")[-1].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "cyclopts" in loaded
    heavy = {"torch", "transformers", "peft", "accelerate", "lm_eval", "datasets", "scipy", "numpy"}
    assert not loaded & heavy


@pytest.mark.parametrize(
    "command", ["train", "run", "scorecard", "sample", "plan", "models", "tasks"]
)
def test_every_command_has_help(succeed: Command, command: str) -> None:
    assert "Usage: gistbench" in succeed(command, "--help")


def test_help_of_train_and_run_names_every_field(succeed: Command) -> None:
    text = succeed("train", "--help")
    for flag in ("--training.max-steps", "--data.context-tokens", "--adapter.num-gists"):
        assert flag in text
    text = succeed("run", "--help")
    for flag in ("--models", "--checkpoint", "--base", "--tasks", "--context-tokens", "--samples"):
        assert flag in text


def test_version_is_printed(succeed: Command) -> None:
    assert succeed("--version").strip() == "0.1.0"


def test_tasks_are_listed_with_their_chance_floor(succeed: Command) -> None:
    text = succeed("tasks")
    for word in ("niah_passkey", "niah_passkey_ko", "en", "ko", "1.1e-05", "4,925"):
        assert word in text


def test_models_lists_arms_then_base_models(succeed: Command) -> None:
    text = succeed("models")
    assert all(name in text for name in ARM_NAMES)
    assert text.index("swapped") < text.index("smollm2-135m")
    assert "llama-3-8b" in text
    assert "Apache-2.0" in text


def test_fetch_of_a_model_that_is_here_says_where(succeed: Command, fail: Command) -> None:
    assert ".gguf" in succeed("models", "fetch", "smollm2-135m")


def test_fetch_of_other_models_is_refused(fail: Command) -> None:
    assert "did you mean 'smollm2-135m'" in fail("models", "fetch", "smolm2-135m")
    assert "comes from the hub" in fail("models", "fetch", "llama-3-8b")


# ------------------------------------------------------------------------------------------- plan


def test_the_seed_recipes_plan_has_the_seeds_numbers(succeed: Command) -> None:
    plan = json.loads(succeed("plan", "--preset", "gist-global-10", "--json"))
    assert plan["trainable_parameters"] == 1064386560
    assert plan["total_parameters"] == 9094729728
    assert plan["key_value_bytes_per_token"] == 2 * 32 * 8 * 128 * 2
    assert plan["gist_cache_bytes"] == 10 * plan["key_value_bytes_per_token"]
    assert plan["full_cache_bytes"] == 4925 * plan["key_value_bytes_per_token"]
    assert plan["compression_ratio"] == 492.5


def test_flags_win_over_the_preset(succeed: Command) -> None:
    words = ("plan", "--preset", "gist-10", "--json")
    flags = (
        "--adapter.num-gists",
        "20",
        "--data.context-tokens",
        "1000",
        "--data.curriculum",
        "[]",
    )
    plan = json.loads(succeed(*words, *flags[:4]))
    assert (plan["num_gists"], plan["context_tokens"]) == (20, 1000)
    assert json.loads(succeed(*words))["num_gists"] == 10


@pytest.mark.parametrize(
    "bounds",
    [
        ("--data.max-stage-steps", "3", "0"),
        ("--data.max-stage-steps", "3", "--data.max-stage-steps", "0"),
    ],
)
def test_a_list_takes_its_values_in_a_row_or_one_flag_each(
    fail: Command, bounds: tuple[str, ...]
) -> None:
    assert "1 step at least" in fail("plan", "--preset", "gist-10", *bounds)


def test_the_objective_chooses_its_own_preset(succeed: Command) -> None:
    """A checkpoint without gists must not be named after the gist recipe."""
    full = json.loads(succeed("plan", "--objective", "full", "--json"))
    assert full == json.loads(succeed("plan", "--preset", "full-10", "--json"))
    gist = json.loads(succeed("plan", "--json"))
    assert (full["objective"], full["num_gists"], full["compression_ratio"]) == ("full", 0, None)
    assert full["name"] != gist["name"]
    assert full["context_tokens_per_step"] == gist["context_tokens_per_step"]
    assert gist["trainable_parameters"] - full["trainable_parameters"] == 10 * 576
    assert "no gists are trained" in succeed("plan", "--objective", "full")


def test_flags_win_over_a_file(succeed: Command, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("adapter: {num_gists: 5, lora_rank: 8}\n", encoding="utf-8")
    words = ("plan", "--config", path, "--json")
    alone, changed = (
        json.loads(succeed(*words, *flags)) for flags in ((), ("--adapter.lora-rank", "4"))
    )
    assert alone["num_gists"] == changed["num_gists"] == 5
    assert changed["trainable_parameters"] < alone["trainable_parameters"]


def test_a_plan_for_people_names_units(succeed: Command) -> None:
    text = succeed("plan", "--preset", "gist-global-10")
    assert "1,064,386,560" in text
    assert "GiB" in text
    assert "nothing measured" in text


# ------------------------------------------------------------------------------- train, run, sample


def test_training_then_running_from_the_command_line(
    succeed: Command, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gistbench.bench.run as bench_run
    from tests.fixtures.in_process import InProcess

    config = tmp_path / "mine.yaml"
    config.write_text(
        f"name: mine\nbase: {{name: {tiny_base}, dtype: float32}}\n"
        "adapter: {num_gists: 3}\ndata: {context_tokens: 160, num_workers: 0}\n"
        "training: {max_steps: 50, per_device_train_batch_size: 1, optim: adamw_torch}\n",
        encoding="utf-8",
    )
    text = succeed(*("train", "--config", config, "--training.max-steps", "2", "--device", "cpu"))
    folder = Path("checkpoints") / "mine"
    assert f"gist checkpoint: {folder}" in text
    manifest = json.loads((folder / "gist.json").read_text(encoding="utf-8"))
    assert TrainConfig.model_validate(manifest["training_config"]).training.max_steps == 2
    assert manifest["num_gists"] == 3
    monkeypatch.setattr(bench_run, "run_worker", InProcess())
    words = ("run", "--models", "gist,full", "--checkpoint", folder, "--samples", "2")
    words += ("--context-tokens", "160", "--device", "cpu", "--dtype", "float32")
    text = succeed(*words, "--output", "out")
    assert "scorecard: out/scorecard.html" in text
    record = json.loads(Path("out/run.json").read_text(encoding="utf-8"))
    assert [arm["name"] for arm in record["arms"]] == ["gist", "full", "swapped", "none"]
    assert record["command"].startswith("gistbench run --models gist,full --checkpoint ")
    again = Path("again")
    repeated = record["command"].split()[1:]
    succeed(*repeated, "--output", again)
    ours, theirs = (
        [r.output for r in read_jsonl(Path(name) / "samples.jsonl", SampleRecord)]
        for name in ("out", "again")
    )
    assert ours == theirs


def test_the_command_of_a_record_can_be_pasted_into_a_shell(
    succeed: Command, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    import gistbench.bench.run as bench_run
    from tests.fixtures.in_process import InProcess

    monkeypatch.setattr(bench_run, "run_worker", InProcess())
    base = tmp_path / "my models" / "tiny"
    shutil.copytree(tiny_base, base)
    words = ("run", "--models", "full", "--base", base, "--samples", "2", "--device", "cpu")
    words += ("--context-tokens", "160", "--timing-rounds", "0", "--seed", "0")
    succeed(*words, "--output", "out")
    command = json.loads(Path("out/run.json").read_text(encoding="utf-8"))["command"]
    assert str(base) in shlex.split(command)
    assert "--timing-rounds 0" in command  # a zero is a value
    assert "--seed 0" in command


def test_sample_prints_the_whole_prompt_that_ran(succeed: Command, tiny_run: Path) -> None:
    record = next(iter(read_jsonl(tiny_run / "samples.jsonl", SampleRecord)))
    printed = succeed("sample", tiny_run, record.sample_id)
    assert record.excerpt_needle in printed
    digest = hashlib.sha256(printed.removesuffix("\n").encode()).hexdigest()
    assert digest == record.prompt_sha256


def test_a_sample_whose_prompt_would_differ_now_is_refused(
    fail: Command, tiny_run: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tiny_run, tmp_path / "copy"))
    lines = (copy / "samples.jsonl").read_text(encoding="utf-8")
    first = json.loads(lines.splitlines()[0])
    (copy / "samples.jsonl").write_text(
        lines.replace(first["prompt_sha256"], "0" * 64), encoding="utf-8"
    )
    assert "differs from the one that ran" in fail("sample", copy, first["sample_id"])


def test_a_question_that_a_record_does_not_hold_is_made_again(tiny_run: Path) -> None:
    from gistbench.bench.samples import question_maker

    question = question_maker(tiny_run)
    for record in read_jsonl(tiny_run / "samples.jsonl", SampleRecord):
        assert record.question
        older = record.model_copy(update={"question": None})
        assert question(older) == record.question
        with pytest.raises(UsageError, match="differs from the one that ran"):
            question(older.model_copy(update={"prompt_sha256": "0" * 64}))


def test_scorecard_renders_again(succeed: Command, tiny_run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_run, tmp_path / "copy"))
    text = succeed("scorecard", copy)
    assert "NOT MEASURED" in text
    names = {path.name for path in copy.iterdir()}
    assert {"scorecard.html", "scorecard.json", "scorecard.md"} <= names


# --------------------------------------------------------------------------------------- lm-eval


@pytest.fixture
def lm_eval_command(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """lm-eval reads sys.argv, and has the root logger write to what is stderr at the time."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    loggers = [logging.getLogger(name) for name in (None, "lm_eval")]
    before = [list(logger.handlers) for logger in loggers]
    yield
    for logger, handlers in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers


@pytest.mark.slow
def test_lm_eval_runs_an_arm(
    succeed: Command, lm_eval_command: None, tiny_base: Path, tmp_path: Path
) -> None:
    """Its metadata alone sets the length; everything else is lm-eval's."""
    metadata = json.dumps({"context_tokens": 160, "num_samples": 3})
    text = succeed(
        *("lm-eval", "run", "--model", "gistbench", "--tasks", "niah_passkey"),
        *("--model_args", f"arm=full,base={tiny_base},dtype=float32", "--device", "cpu"),
        *("--metadata", metadata, "--output_path", tmp_path / "out", "--log_samples"),
    )
    assert "niah_passkey" in text
    assert "exact_match" in text
    (file,) = (tmp_path / "out").rglob("samples_niah_passkey_*.jsonl")
    assert len(file.read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.slow
def test_lm_eval_runs_an_arm_on_a_task_of_its_own(
    succeed: Command, lm_eval_command: None, ruler_base: Path, tmp_path: Path
) -> None:
    pytest.importorskip("wonderwords")
    metadata = json.dumps({"max_seq_lengths": [700]})
    text = succeed(
        *("lm-eval", "run", "--model", "gistbench", "--tasks", "niah_single_1", "--limit", "2"),
        *("--model_args", f"arm=full,base={ruler_base},dtype=float32", "--device", "cpu"),
        *("--metadata", metadata, "--output_path", tmp_path / "out", "--log_samples"),
    )
    assert "niah_single_1" in text
    (file,) = (tmp_path / "out").rglob("samples_niah_single_1_*.jsonl")
    assert len(file.read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"arm": "fulll"}, "unknown arm 'fulll' in --model_args, did you mean 'full'?"),
        ({"arm": "full", "dtpe": "float32"}, "unknown field 'dtpe', did you mean 'dtype'?"),
        ({"arm": "full", "base": "smolm2-135m"}, "did you mean 'smollm2-135m'?"),
        ({"arm": "gist", "checkpoint": "nothing"}, "no gist checkpoint at 'nothing'"),
        ({"arm": "full", "batch_size": "auto"}, "give a number"),
        ({"arm": "full", "device": "tpu"}, "device"),
    ],
)
def test_wrong_model_arguments_of_lm_eval_are_refused(arguments: dict[str, str], said: str) -> None:
    from gistbench.bench.lm_eval_cli import GistbenchLM

    with pytest.raises(GistbenchError) as caught:
        GistbenchLM(**arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arm", ["gist", "swapped"])
def test_an_arm_with_gists_but_no_checkpoint_is_refused_by_lm_eval_too(
    tiny_base: Path, arm: str
) -> None:
    """Without the refusal, the gist arm would answer from no gists at all."""
    from gistbench.bench.lm_eval_cli import GistbenchLM

    with pytest.raises(UsageError, match="needs a gist checkpoint"):
        GistbenchLM(arm=arm, base=str(tiny_base), dtype="float32", device="cpu")


# ---------------------------------------------------------------------------------------- refusals


def test_a_run_on_the_wrong_base_is_one_sentence(
    fail: Command, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gistbench.bench.run as bench_run
    from tests.fixtures.in_process import InProcess

    monkeypatch.setattr(bench_run, "run_worker", InProcess())
    monkeypatch.setattr("gistbench.progress.LiveDisplay.say", lambda *_: None)
    other = write_tiny_base(tmp_path / "other", num_hidden_layers=3)
    words = ("run", "--models", "gist", "--checkpoint", tiny_checkpoint, "--base", other)
    text = fail(*words, "--context-tokens", "160", "--device", "cpu", "--output", "out")
    assert "was trained on" in text
    assert "they differ in num_hidden_layers" in text


REFUSALS: dict[str, tuple[list[Any], str]] = {
    "arm": (["run", "--models", "gits"], "did you mean 'gist'?"),
    "task": (["run", "--models", "full", "--tasks", "niah_pasky"], "did you mean 'niah_passkey'?"),
    "base": (["run", "--models", "full", "--base", "smolm2"], "did you mean 'smollm2-135m'?"),
    "checkpoint": (["run", "--checkpoint", "nothing"], "no gist checkpoint at 'nothing'"),
    "no checkpoint": (["run"], "needs a gist checkpoint; pass --checkpoint"),
    "no tuned checkpoint": (["run", "--models", "full-tuned"], "pass --tuned-checkpoint"),
    "objective": (["train", "--objective", "fulll"], "fulll"),
    "preset": (["train", "--preset", "gst-10"], "did you mean 'gist-10'?"),
    "preset of plan": (["plan", "--preset", "gist-globl-10"], "did you mean 'gist-global-10'?"),
    "both": (["train", "--preset", "gist-10", "--config", "a.yaml"], "give one of them"),
    "no such file": (["train", "--config", "none.yaml"], "cannot read none.yaml: no such file"),
    "command": (["rnu"], "run"),
    "flag": (["run", "--sampels", "3"], "--sampels"),
    "nested flag": (["train", "--training.max-step", "3"], "max-step"),
    "value": (["run", "--samples", "many"], "many"),
    "range": (["run", "--models", "full", "--samples", "0"], "samples"),
    "nested range": (["train", "--training.max-steps", "0"], "max"),
    "choice": (["run", "--models", "full", "--dtype", "int8"], "int8"),
    "scorecard of nothing": (["scorecard", "nowhere"], "nowhere/run.json cannot be read"),
    "sample of nothing": (["sample", "nowhere", "1"], "nowhere/run.json cannot be read"),
    "cuda": (["train", "--device", "cuda", "--output", "o"], "needs an NVIDIA GPU"),
    "output": (["run", "--models", "full", "--output", "/proc/x"], "cannot write /proc/x"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_is_one_sentence_with_exit_code_2(fail: Command, case: str) -> None:
    words, said = REFUSALS[case]
    assert said in fail(*words)
    assert list(Path().iterdir()) == [], "nothing is written"


def test_broken_yaml_names_its_line(fail: Command, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: a\ndata:\n  tasks: [niah_passkey\n  replay: 0\n", encoding="utf-8")
    for command in ("train", "run", "plan"):
        assert f"{path} line 4" in fail(command, "--config", path)


def test_a_wrong_field_in_a_file_is_named(fail: Command, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("training:\n  max_step: 3\n", encoding="utf-8")
    assert "unknown field 'training.max_step', did you mean 'max_steps'?" in fail(
        "train", "--config", path
    )


def test_a_sample_that_a_run_does_not_have_suggests_one(fail: Command, tiny_run: Path) -> None:
    text = fail("sample", tiny_run, "niah_passkey/test/160/seed0/99")
    assert "did you mean 'niah_passkey/test/160/seed0/" in text


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("run.json", "{", "is not valid JSON"),
        ("run.json", '{"schema_version": 7}', "has schema version 7"),
        ("run.json", "{}", "is not a RunRecord"),
        ("samples.jsonl", '{"arm": \n', "samples.jsonl line 1 is not valid JSON"),
        ("samples.jsonl", "{}\n", "samples.jsonl line 1 is not a SampleRecord"),
    ],
)
def test_the_scorecard_of_a_broken_run_is_one_sentence(
    fail: Command, tiny_run: Path, tmp_path: Path, file: str, text: str, said: str
) -> None:
    copy = Path(shutil.copytree(tiny_run, tmp_path / "copy"))
    (copy / file).write_text(text, encoding="utf-8")
    assert said in fail("scorecard", copy)


def test_no_resume_refuses_a_used_folder(fail: Command, tiny_checkpoint: Path) -> None:
    text = fail("train", "--no-resume", "--output", tiny_checkpoint)
    assert "is not empty; choose another --output" in text


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    code = (
        "import os, sys\n"
        "from gistbench.cli import main\n"
        "sys.stdout = os.fdopen(int(sys.argv[1]), 'w', buffering=1)\n"
        "main(['plan', '--preset', 'gist-10', '--json'])\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code, str(writer)], pass_fds=[writer], capture_output=True, text=True
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from gistbench import generators

    monkeypatch.setattr(generators, "task_names", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["tasks"])
