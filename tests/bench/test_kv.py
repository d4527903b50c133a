"""Claims about runs with arms of another environment. The first needs it: ``make test-kvpress``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gistbench.bench.run as bench_run
from gistbench.arms import names
from gistbench.bench.job import PROBE_FILE, Event, Job, Probe
from gistbench.bench.run import run
from gistbench.cli import main as command_line
from gistbench.config import RunConfig
from gistbench.environments import kvpress_python
from gistbench.errors import PrerequisiteError, UsageError
from gistbench.records import RunRecord, SampleRecord
from gistbench.storage import read_json, read_jsonl, write_json
from tests.fixtures.in_process import InProcess, SilentDisplay
from tests.fixtures.tiny_base import CONTEXT_TOKENS, write_tiny_base

Settings = Callable[..., RunConfig]
KV_BYTES = 2 * 2 * 2 * 16 * 4  # keys and values, layers, heads, head_dim, float32


@pytest.fixture
def kvpress() -> None:
    try:
        kvpress_python()
    except PrerequisiteError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is taken to be here."""
    monkeypatch.setattr(names, "kvpress_python", lambda: "python")


@pytest.mark.slow
def test_one_command_runs_kvpress_beside_full_and_writes_a_scorecard(
    kvpress: None, tiny_base: Path, tmp_path: Path
) -> None:
    whole = f"kv-streaming-llm-{CONTEXT_TOKENS}"
    command = ["run", "--models", f"kv-knorm-40,full,{whole}", "--base", str(tiny_base)]
    command += ["--device", "cpu", "--dtype", "float32", "--samples", "6", "--batch-size", "2"]
    command += ["--context-tokens", str(CONTEXT_TOKENS), "--output", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as end:
        command_line(command)
    assert end.value.code == 0
    assert (tmp_path / "run" / "scorecard.html").is_file()

    record = read_json(tmp_path / "run" / "run.json", RunRecord)
    arms = {arm.name: arm for arm in record.arms}
    assert list(arms) == ["kv-knorm-40", "full", whole, "none"]
    assert all(arm.complete and arm.weights == "base" for arm in record.arms)
    versions = arms["kv-knorm-40"].packages
    assert tuple(map(int, versions["transformers"].split(".")[:2])) < (5, 3)
    assert versions["kvpress"]
    assert versions["torch"] == record.provenance.packages["torch"]
    assert arms["full"].packages == arms["none"].packages == {}
    assert "kvpress" not in record.provenance.packages, "the run's own versions are gistbench's"

    samples = list(read_jsonl(tmp_path / "run" / "samples.jsonl", SampleRecord))
    said = {name: [s.output for s in samples if s.arm == name] for name in arms}
    assert said[whole] == said["full"], "one model, prompts and decoding in both environments"
    assert said["kv-knorm-40"] != said["full"]
    for sample in samples:
        if sample.arm == "kv-knorm-40":
            assert (sample.cache_tokens, sample.cache_bytes) == (40, 40 * KV_BYTES)


def test_the_probe_runs_in_gistbenchs_own_environment(
    pretended: None, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says of versions stands in the record for all arms; it also unpacks GGUF files."""
    seen: list[Job] = []

    def stop(job: Job, _: Callable[[Event], None]) -> None:
        seen.append(job)
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_run, "run_worker", stop)
    for number, models in enumerate([("kv-knorm-40",), ("kv-knorm-40", "gist"), ("truncate-40",)]):
        with pytest.raises(KeyboardInterrupt):
            run(
                settings(models=models),
                tmp_path / str(number),
                display=SilentDisplay(),
                command="gistbench run",
            )
    assert [(job.mode, job.arm) for job in seen] == [
        ("probe", "full"),
        ("probe", "gist"),
        ("probe", "truncate-40"),
    ]


def test_another_environment_is_given_the_folder_that_the_probe_found(
    pretended: None, settings: Settings, tiny_base: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """Versions of transformers differ in the tokenizer that they make of a GGUF file."""
    in_process = InProcess()
    bases: dict[str, str] = {}

    def start(job: Job, listener: Callable[[Event], None]) -> None:
        bases[job.arm] = job.base
        if job.arm.startswith("kv-"):
            raise KeyboardInterrupt
        in_process(job, listener)

    monkeypatch.setattr(bench_run, "run_worker", start)
    monkeypatch.chdir(tiny_base.parent)
    config = settings(models=("full", "kv-knorm-40"), checkpoint=None, base=tiny_base.name)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "run", display=SilentDisplay(), command="")
    assert bases == {"full": tiny_base.name, "kv-knorm-40": str(tiny_base.resolve())}


def test_a_process_that_splits_texts_otherwise_is_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OtherTokenizer(InProcess):
        def __call__(self, job: Job, listener: Callable[[Event], None]) -> None:
            super().__call__(job, listener)
            if job.mode == "probe":
                path = Path(job.folder) / PROBE_FILE
                found = read_json(path, Probe)
                assert found.tokens_sha256
                write_json(path, found.model_copy(update={"tokens_sha256": "0" * 64}))

    monkeypatch.setattr(bench_run, "run_worker", OtherTokenizer())
    with pytest.raises(UsageError, match="the full arm's process splits the first prompt into"):
        run(settings(models=("full",)), tmp_path, display=SilentDisplay(), command="")


def test_an_arm_that_cannot_read_the_base_model_is_left_out_and_the_others_run(
    pretended: None, settings: Settings, in_process: InProcess, tmp_path: Path
) -> None:
    base = write_tiny_base(tmp_path / "base", model_type="gpt_neox", num_key_value_heads=None)
    config = settings(models=("full", "kv-knorm-40"), checkpoint=None, base=str(base), samples=2)
    run(config, tmp_path / "run", display=SilentDisplay(), command="")
    record = read_json(tmp_path / "run" / "run.json", RunRecord)
    assert [arm.name for arm in record.arms] == ["full", "none"]
    (left_out,) = record.not_applicable
    assert left_out.arm == "kv-knorm-40"
    assert "this one is gpt_neox" in left_out.reason


def test_chunks_are_refused_where_an_arm_cannot_read_in_them(
    pretended: None, settings: Settings, tmp_path: Path
) -> None:
    config = settings(models=("full", "kv-knorm-40"), checkpoint=None, chunk_tokens=64)
    with pytest.raises(UsageError, match="arm kv-knorm-40 reads its context in one pass; leave"):
        run(config, tmp_path / "run", display=SilentDisplay(), command="gistbench run")
    assert not (tmp_path / "run").exists()
