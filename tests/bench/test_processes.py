"""Claims about workers as processes of their own: what they say, how they die, and after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gistbench.bench import processes
from gistbench.bench.job import Event, Job
from gistbench.bench.processes import WorkerError, run_worker
from gistbench.cli import main as command_line
from gistbench.errors import TooLongError, UsageError
from gistbench.records import RunRecord, SampleRecord
from gistbench.storage import read_json, read_jsonl
from tests.fixtures.tiny_base import CONTEXT_TOKENS

ROOT = Path(__file__).resolve().parents[2]


# ---------------------------------------------------------------------- stand-ins for a worker


def job(folder: Path) -> Job:
    return Job(
        mode="evaluate",
        arm="full",
        folder=str(folder),
        base="tiny",
        revision=None,
        checkpoint=None,
        tasks=("niah_passkey",),
        context_tokens=96,
        samples=1,
        seed=0,
        device="cpu",
        dtype="float32",
        quantization="none",
        batch_size=1,
        contexts_held=1,
        allow_other_precision=False,
        trust_remote_code=False,
    )


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let a shell script be the worker; gives a function that runs it and collects its events."""

    def run(script: str) -> list[Event]:
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setattr(processes.sys, "executable", str(program))
        heard: list[Event] = []
        run_worker(job(tmp_path), heard.append)
        return heard

    return run


def test_events_are_heard_and_other_output_is_not(stand_in: Any) -> None:
    heard = stand_in(
        """echo '{"kind": "progress", "task": "t", "done": 2, "total": 5}'
        echo 'a library that prints'
        echo '{"kind": "done"}'"""
    )
    assert [(event.kind, event.done, event.total) for event in heard] == [
        ("progress", 2, 5),
        ("done", 0, 0),
    ]


def test_what_the_user_can_mend_arrives_as_a_usage_error(stand_in: Any) -> None:
    with pytest.raises(UsageError, match=r"^mend this$"):
        stand_in("""echo '{"kind": "error", "text": "mend this"}'; exit 2""")


def test_a_context_without_positions_arrives_as_what_it_is(stand_in: Any) -> None:
    with pytest.raises(TooLongError, match=r"^too long$"):
        stand_in("""echo '{"kind": "error", "text": "too long", "too_long": true}'; exit 2""")


def test_a_crash_keeps_the_end_of_its_traceback(stand_in: Any) -> None:
    with pytest.raises(WorkerError) as caught:
        stand_in("seq 100 >&2; echo 'ZeroDivisionError: division by zero' >&2; exit 1")
    text = str(caught.value)
    assert "the full arm's process ended with exit code 1" in text
    assert text.endswith("ZeroDivisionError: division by zero")
    assert "\n72\n" in text
    assert "\n71\n" not in text
    assert "full.evaluate.log" in text


def test_a_killed_worker_is_named_by_its_signal(stand_in: Any) -> None:
    with pytest.raises(WorkerError, match="signal 9"):
        stand_in("kill -9 $$")


def test_the_workers_log_stays_beside_its_order(stand_in: Any, tmp_path: Path) -> None:
    stand_in("echo careful >&2")
    assert (tmp_path / "full.evaluate.log").read_text(encoding="utf-8") == "careful\n"
    order = (tmp_path / "full.evaluate.job.json").read_text(encoding="utf-8")
    assert Job.model_validate_json(order) == job(tmp_path)


def test_a_worker_is_stopped_when_its_parent_is(stand_in: Any, tmp_path: Path) -> None:
    def interrupt(_: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(UsageError):
        stand_in("""echo '{"kind": "error", "text": "only to write the script"}'""")
    script = tmp_path / "python"
    script.write_text(
        f"""#!/bin/sh\necho $$ > {tmp_path}/pid\necho '{{"kind": "done"}}'\nexec sleep 60\n""",
        encoding="utf-8",
    )
    with pytest.raises(KeyboardInterrupt):
        run_worker(job(tmp_path), interrupt)
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# ------------------------------------------------------------------------------- the real thing


def kill_when_answering(command: list[str], answers: Path, enough: int) -> None:
    """Start a run, and kill it and its workers once some answers are on disk."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gistbench", *command],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and process.poll() is None:
            if answers.is_file() and answers.read_bytes().count(b"\n") >= enough:
                break
            time.sleep(0.005)
    finally:
        alive = process.poll() is None
        if alive:
            os.killpg(process.pid, signal.SIGKILL)
        _, errors = process.communicate()
    assert alive, errors.decode()


def killed_and_resumed(
    arguments: list[str], folder: Path, first_arm: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[int], int]:
    """Kill a run amid its first arm, finish it; give the workers' pids and the answers kept."""
    command = ["run", *arguments, "--output", str(folder)]
    answers = folder / "work" / f"{first_arm}.answers.jsonl"
    kill_when_answering(command, answers, 2)
    kept = answers.read_bytes().count(b"\n")
    assert not (folder / "run.json").exists()
    pids: list[int] = []
    resumed: list[Event] = []
    original = subprocess.Popen

    def popen(words: Any, *rest: Any, **options: Any) -> Any:
        process = original(words, *rest, **options)
        if "gistbench.bench.worker" in words:
            pids.append(process.pid)
        return process

    import gistbench.bench.run as bench_run

    def listening(order: Job, listener: Any) -> None:
        def hear(event: Event) -> None:
            if event.kind == "progress" and event.resumed:
                resumed.append(event)
            listener(event)

        run_worker(order, hear)

    monkeypatch.setattr(processes.subprocess, "Popen", popen)
    monkeypatch.setattr(bench_run, "run_worker", listening)
    main(command)
    assert len(resumed) == kept, "what was answered is not answered again, and nothing else is kept"
    return pids, kept


def samples_of(folder: Path) -> list[dict[str, Any]]:
    return [
        record.model_dump(exclude={"timing"})
        for record in read_jsonl(folder / "samples.jsonl", SampleRecord)
    ]


def main(command: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command_line(command)
    assert end.value.code == 0


NUM_SAMPLES = 40  # enough that a kill finds a run at work


def test_a_killed_run_goes_on_and_gives_the_same_samples(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole process group dies by SIGKILL; the same command finishes the run."""
    arguments = ["--models", "full", "--base", str(tiny_base), "--device", "cpu"]
    arguments += ["--dtype", "float32", "--samples", str(NUM_SAMPLES)]
    arguments += ["--context-tokens", str(CONTEXT_TOKENS)]
    folder = tmp_path / "run"
    pids, kept = killed_and_resumed(arguments, folder, "full", monkeypatch)
    assert kept < NUM_SAMPLES
    assert len(pids) == len(set(pids)) == 2, "the probe is kept; each arm has its own process"
    assert os.getpid() not in pids
    unbroken_run(arguments, tmp_path / "unbroken", monkeypatch)
    assert samples_of(folder) == samples_of(tmp_path / "unbroken")
    assert (folder / "scorecard.html").is_file()


@pytest.mark.slow
def test_a_killed_run_of_four_arms_goes_on_and_gives_the_same_samples(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--models", "gist,full", "--checkpoint", str(tiny_checkpoint), "--device", "cpu"]
    arguments += ["--dtype", "float32", "--samples", str(NUM_SAMPLES)]
    arguments += ["--context-tokens", str(CONTEXT_TOKENS)]
    folder = tmp_path / "run"
    pids, _ = killed_and_resumed(arguments, folder, "gist", monkeypatch)
    assert len(pids) == len(set(pids)) == 4
    record = read_json(folder / "run.json", RunRecord)
    assert [arm.name for arm in record.arms] == ["gist", "full", "swapped", "none"]
    assert all(arm.complete for arm in record.arms)
    unbroken_run(arguments, tmp_path / "unbroken", monkeypatch)
    assert samples_of(folder) == samples_of(tmp_path / "unbroken")


def unbroken_run(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same run with its workers in this process: also shows that processes change nothing."""
    import gistbench.bench.run as bench_run
    from tests.fixtures.in_process import InProcess

    monkeypatch.setattr(bench_run, "run_worker", InProcess())
    main(["run", *arguments, "--output", str(folder)])
