"""Claims about runs whose samples are shared by several processes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gistbench.bench import processes, spread, worker
from gistbench.bench.answering import _sharing
from gistbench.bench.job import GO_ON, Event, Job
from gistbench.bench.run import run
from gistbench.bench.spread import require_possible
from gistbench.cli import main as command_line
from gistbench.config import RunConfig
from gistbench.errors import UsageError
from gistbench.records import NotMeasured, RunRecord, SampleRecord
from gistbench.storage import read_json, read_jsonl
from tests.bench.test_processes import job, kill_when_answering, samples_of
from tests.fixtures.in_process import InProcess, SilentDisplay
from tests.fixtures.tiny_base import CONTEXT_TOKENS

ROOT = Path(__file__).resolve().parents[2]
Settings = Callable[..., RunConfig]


class WorkerHere:
    """Stands in for `Worker`: the work is done in this process, and the waiting is real."""

    begun: list[WorkerHere]
    answered: list[tuple[str, int]]
    stop_after: int | None
    _one_at_a_time = threading.Lock()

    def __init__(self, job: Job) -> None:
        self.job, self.told, self.stopped = job, threading.Event(), threading.Event()
        self.begun.append(self)

    def listen(self, listener: Callable[[Event], None]) -> None:
        if self.job.mode == "evaluate":
            # Its own share could be answered sooner; in one process that is somebody's turn.
            while not self.told.wait(0.01):
                if self.stopped.is_set():
                    return

        def emit(event: Event) -> None:
            if self.stopped.is_set():
                raise KeyboardInterrupt
            listener(event)
            if event.kind == "progress" and not event.resumed:
                self.answered.append((self.job.arm, self.job.process))
                if self.stop_after is not None and len(self.answered) >= self.stop_after:
                    raise KeyboardInterrupt

        with self._one_at_a_time, pytest.MonkeyPatch.context() as patch:
            patch.setattr(worker, "emit", emit)
            patch.setattr(sys, "stdin", io.StringIO(f"{GO_ON}\n"))
            worker.MODES[self.job.mode](self.job)

    def go_on(self) -> None:
        self.told.set()

    def stop(self) -> None:
        self.stopped.set()


@pytest.fixture
def here(in_process: InProcess, monkeypatch: pytest.MonkeyPatch) -> type[WorkerHere]:
    """Workers that share samples run here too, and are counted."""
    WorkerHere.begun, WorkerHere.answered, WorkerHere.stop_after = [], [], None
    monkeypatch.setattr(spread, "Worker", WorkerHere)
    return WorkerHere


def start(config: RunConfig, folder: Path, display: SilentDisplay | None = None) -> RunRecord:
    run(config, folder, display=display or SilentDisplay(), command="gistbench run")
    return read_json(folder / "run.json", RunRecord)


def without_times(record: RunRecord) -> dict[str, Any]:
    """A record without times, memory of the host, and the words that say how many answered."""
    found = record.model_dump(exclude={"created", "command", "notes"})
    found["settings"].pop("processes")
    for arm in found["arms"]:
        for phase in arm["phases"]:
            del phase["seconds"], phase["resident_peak_bytes"]
    return found


SHARED: dict[str, Any] = {
    "models": ("gist",),
    "tasks": ("niah_passkey", "niah_two_questions"),
    "samples": 5,
    "batch_size": 2,
}
"""Batches that do not divide, and two questions to one context, which stay together."""


@pytest.fixture(scope="module")
def unbroken(
    tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RunRecord, int]:
    """The run of one process: its folder, its record, and the batches that were answered."""
    import gistbench.bench.run as bench_run

    folder, workers = tmp_path_factory.mktemp("one") / "run", InProcess()
    fields = {"context_tokens": CONTEXT_TOKENS, "device": "cpu", "dtype": "float32"}
    config = RunConfig(checkpoint=str(tiny_checkpoint), **fields, **SHARED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_run, "run_worker", workers)
        record = start(config, folder)
    return folder, record, len(workers.answered)


Unbroken = tuple[Path, RunRecord, int]


def test_several_processes_leave_what_one_leaves(
    settings: Settings, tmp_path: Path, here: type[WorkerHere], unbroken: Unbroken
) -> None:
    one, record, batches = unbroken
    display, folder = SilentDisplay(), tmp_path / "run"
    several = start(settings(**SHARED, processes=3), folder, display)
    assert samples_of(folder) == samples_of(one)
    assert without_times(several) == without_times(record)
    assert {path.name for path in folder.iterdir()} == {path.name for path in one.iterdir()}
    assert several.notes[-1].startswith("each arm's samples were answered by 3 processes")
    shares = [here.answered.count(("gist", process)) for process in range(3)]
    assert max(shares) - min(shares) <= 1
    assert len(here.answered) == batches
    last = [step for step in display.steps if step[:2] == ("gist", "niah_passkey")][-1]
    assert last[2:] == (5, 5), "progress is that of all of them"


def test_processes_on_one_processor_have_no_times(
    settings: Settings, tmp_path: Path, here: type[WorkerHere]
) -> None:
    start(settings(models=("gist",), samples=4, processes=2), tmp_path)
    timings = [record.timing for record in read_jsonl(tmp_path / "samples.jsonl", SampleRecord)]
    reason = "2 processes answered on one processor at once"
    assert timings == [NotMeasured(not_measured=reason)] * len(timings)


@pytest.mark.parametrize("then", [1, 3])
def test_a_run_that_was_stopped_goes_on_with_any_number_of_processes(
    settings: Settings,
    tmp_path: Path,
    here: type[WorkerHere],
    in_process: InProcess,
    unbroken: Unbroken,
    then: int,
) -> None:
    one, record, batches = unbroken
    here.stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        start(settings(**SHARED, processes=2), tmp_path)
    assert not (tmp_path / "run.json").exists()
    assert len(here.answered) == 4
    here.stop_after = None
    several = start(settings(**SHARED, processes=then), tmp_path)
    (note,) = (text for text in several.notes if "processes at once" in text)
    assert f"{min(2, then)} or {max(2, then)} processes at once" in note and "went on" in note
    assert samples_of(tmp_path) == samples_of(one)
    resumed, whole = without_times(several), without_times(record)
    for arm in (*resumed["arms"], *whole["arms"]):
        del arm["phases"]  # of what the process that evaluates did itself, after the stop
    assert resumed == whole
    assert len(here.answered) + len(in_process.answered) == batches, "none is answered twice"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"processes": 7}, r"6 samples are 6 batches of --batch-size 1; pass --processes 6"),
        ({"processes": 3, "batch_size": 4}, r"are 2 batches .*; pass --processes 2 or less"),
        ({"processes": 2, "batch_size": 6}, r"are 1 batch of --batch-size 6; pass --processes 1"),
        ({"processes": 2, "parallel_arms": 2}, r"several models on one GPU; pass one of the two"),
    ],
)
def test_processes_that_cannot_be_used_are_refused_before_anything_is_written(
    settings: Settings, tmp_path: Path, changes: dict[str, int], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        start(settings(**changes), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_each_process_needs_a_gpu_of_its_own() -> None:
    found: Any = SimpleNamespace(provenance=SimpleNamespace(device="cuda:0"), num_gpus=2)
    require_possible(RunConfig(processes=2), 200, found)
    with pytest.raises(UsageError, match=r"can use 2 here; pass --processes 2 or less"):
        require_possible(RunConfig(processes=3), 200, found)
    found.provenance.device, found.num_gpus = "cpu", 0
    require_possible(RunConfig(processes=3), 200, found)


# -------------------------------------------------------------------- stand-ins for the processes


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let a shell script be all workers; gives a function that runs two and collects events."""

    def go(script: str) -> list[Event]:
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setattr(processes.sys, "executable", str(program))

        def order(mode: Any, arm: str, *, process: int = 0) -> Job:
            changes = {"mode": mode, "process": process, "processes": 2, "device": "auto"}
            return job(tmp_path).model_copy(update=changes)

        state: Any = SimpleNamespace(job=order, config=RunConfig(processes=2))
        heard: list[Event] = []
        spread.evaluate(state, "full", heard.append)
        return heard

    return go


OTHER = 'case "$3" in *answer*)'  # the order's name says which process it is for


def test_the_first_goes_on_when_the_others_have_ended(stand_ins: Any, tmp_path: Path) -> None:
    stand_ins(f"""{OTHER} sleep 0.5; echo ended >> order;; *)
        read line; echo "$line" >> order;; esac""")
    assert (tmp_path / "order").read_text(encoding="utf-8") == f"ended\n{GO_ON}\n"


def test_progress_is_added_up(stand_ins: Any) -> None:
    line = '{"kind": "progress", "task": "t", "done": %d, "total": 9}'
    heard = stand_ins(f"""{OTHER} echo '{line % 4}';; *)
        read line; echo '{line % 5}';; esac""")
    assert [event.done for event in heard] == [4, 9]


def test_each_process_sees_one_gpu_and_none_that_was_hidden(
    stand_ins: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"""{OTHER} echo $CUDA_VISIBLE_DEVICES > other;; *)
        read line; echo $CUDA_VISIBLE_DEVICES > first;; esac"""
    cases = (("4,7", ("4\n", "7\n")), (None, ("0\n", "1\n")), ("", ("\n", "\n")))
    for visible, expected in cases:
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        stand_ins(script)
        assert tuple((tmp_path / name).read_text() for name in ("first", "other")) == expected


def test_no_worker_is_part_of_a_launch(
    stand_ins: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, text)
    stand_ins(f"""{OTHER} ;; *) read line; echo "$RANK$WORLD_SIZE$LOCAL_RANK" > seen;; esac""")
    assert (tmp_path / "seen").read_text(encoding="utf-8") == "\n"


@pytest.mark.parametrize("failing", ["answer", "evaluate"])
def test_one_that_fails_ends_the_other(stand_ins: Any, tmp_path: Path, failing: str) -> None:
    with pytest.raises(UsageError, match=r"^mend this$"):
        stand_ins(f"""case "$3" in *{failing}*)
            while [ ! -s pid ]; do sleep 0.02; done
            echo '{{"kind": "error", "text": "mend this"}}'; exit 2;;
            *) echo $$ > pid; exec sleep 300;; esac""")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text(encoding="utf-8")), 0)


def test_a_first_process_whose_parent_is_gone_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    sharing = _sharing(Job.model_construct(mode="evaluate", process=0, processes=2))
    assert sharing is not None
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(SystemExit):
        sharing.meet()


# ------------------------------------------------------------------------------- the real thing


def in_words(base: Path, device: str = "cpu") -> list[str]:
    words = ["run", "--models", "full", "--base", str(base), "--device", device]
    words += ["--dtype", "float32", "--samples", "60"]
    return [*words, "--context-tokens", str(CONTEXT_TOKENS)]


@pytest.mark.slow
def test_a_killed_run_of_two_processes_goes_on_under_a_launcher(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes: killed while they answer, finished by torchrun, equal to one process's."""
    folder, words = tmp_path / "run", in_words(tiny_base)
    command = [*words, "--processes", "2", "--output", str(folder)]
    # The first to answer is not yet through its part, so that there is something to go on with.
    kill_when_answering(command, folder / "work" / "full.answers.jsonl", 2)
    assert not (folder / "run.json").exists()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", "-m", "gistbench", *words, "--output", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    import gistbench.bench.run as bench_run

    monkeypatch.setattr(bench_run, "run_worker", InProcess())
    with pytest.raises(SystemExit) as end:
        command_line([*words, "--output", str(tmp_path / "one")])
    assert end.value.code == 0
    assert samples_of(folder) == samples_of(tmp_path / "one")
    records = [read_json(path / "run.json", RunRecord) for path in (folder, tmp_path / "one")]
    assert without_times(records[0]) == without_times(records[1])


def test_a_launcher_and_the_settings_may_not_disagree(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, text in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    words = ["run", "--base", "smollm2-135m", "--models", "full", "--output", str(tmp_path / "x")]
    with pytest.raises(SystemExit) as end:
        command_line([*words, "--processes", "3"])
    assert end.value.code == 2
    assert "2 processes were launched, and --processes says 3" in capsys.readouterr().err
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    with pytest.raises(SystemExit) as end:
        command_line(words)
    assert end.value.code == 2
    assert "a run keeps to one" in capsys.readouterr().err


def test_other_processes_of_a_launch_leave_the_run_to_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, text in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, text)
    with pytest.raises(SystemExit) as end:
        command_line(["run", "--models", "nonsense", "--output", str(tmp_path / "x")])
    assert end.value.code == 0
    assert not (tmp_path / "x").exists()


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_answer_like_one(tiny_base: Path, tmp_path: Path) -> None:
    words = in_words(tiny_base, "cuda")
    for number in (1, 2):
        with pytest.raises(SystemExit) as end:
            command_line(
                [*words, "--processes", str(number), "--output", str(tmp_path / f"{number}")]
            )
        assert end.value.code == 0
    assert samples_of(tmp_path / "2") == samples_of(tmp_path / "1")
