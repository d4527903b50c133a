"""A profile is of further steps: it says where their time goes, and leaves timed ones alone."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from gistbench.config_files import validate
from gistbench.records import NotMeasured
from gistbench.speed import decoding, profile
from gistbench.speed.profile import LastLook, Profiler
from gistbench.speed.records import Profile, SpeedRecord
from gistbench.speed.run import speed_of_decoding, speed_of_training
from gistbench.speed.settings import DecodeSpeedConfig
from gistbench.speed.table import tables
from gistbench.storage import read_json
from gistbench.training.trainer import GistTrainer
from tests.fixtures.tiny_base import tiny_config


def shown(record: SpeedRecord) -> str:
    console = Console(file=io.StringIO(), width=110)
    for table in tables(record):
        console.print(table)
    return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def train(base: Path, file: Path, **options: Any) -> SpeedRecord:
    config = tiny_config(base, weights="random")
    record = speed_of_training(
        config, file, device="cpu", steps=2, warm_up_steps=1, command="x", **options
    )
    assert record is not None
    assert read_json(file, SpeedRecord) == record
    return record


def decode(base: Path, file: Path, **options: Any) -> SpeedRecord:
    fields = {
        "base": str(base),
        "weights": "random",
        "dtype": "float32",
        "batch_sizes": "2",
        "context_tokens": 40,
        "new_tokens": 6,
        "rounds": 2,
    }
    wanted = validate(DecodeSpeedConfig, fields, "test")
    record = speed_of_decoding(wanted, file, device="cpu", command="x", **options)
    assert read_json(file, SpeedRecord) == record
    return record


def require_whole(found: Profile | NotMeasured | None, steps: int) -> Profile:
    assert isinstance(found, Profile)
    assert (found.traced, found.steps) == ("operators", steps)
    assert sum(group.share for group in found.groups) == pytest.approx(1.0)
    seconds = [group.seconds_per_step for group in found.groups]
    assert seconds == sorted(seconds, reverse=True)
    assert 0 < sum(seconds) < found.seconds_per_step
    assert isinstance(found.idle_share, NotMeasured)
    return found


@pytest.fixture
def steps_taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each training step's loss, whether it was traced."""
    seen: list[bool] = []
    sound = GistTrainer.compute_loss

    def watched(self: Any, *args: Any, **options: Any) -> Any:
        seen.append(torch.autograd._profiler_enabled())
        return sound(self, *args, **options)

    monkeypatch.setattr(GistTrainer, "compute_loss", watched)
    return seen


def test_training_is_traced_after_the_timed_steps_and_never_in_them(
    tiny_base: Path, tmp_path: Path, steps_taken: list[bool]
) -> None:
    record = train(tiny_base, tmp_path / "s.json", profiled=True)
    speed = record.training
    assert speed is not None
    assert steps_taken == [False] * 3 + [True] * 3
    assert len(speed.step_seconds) == 2
    found = require_whole(speed.profile, steps=2)
    products = {group.name: group for group in found.groups}["matrix products"]
    assert products.launches_per_step == int(products.launches_per_step) > 0
    assert "where the time went, a training step" in shown(record)


def test_without_the_option_nothing_is_traced(
    tiny_base: Path, tmp_path: Path, steps_taken: list[bool]
) -> None:
    record = train(tiny_base, tmp_path / "s.json")
    assert record.training is not None and record.training.profile is None
    assert not any(steps_taken)
    side = decode(tiny_base, tmp_path / "d.json").decoding[0]
    assert side.profile is None
    assert "where the time went" not in shown(record)


def test_every_side_of_a_decoding_measurement_has_a_profile_of_its_steps_alone(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[str] = []
    sound = decoding.decoding_loop

    def counted(name: Any) -> Any:
        loop = sound(name)

        def ask(*args: Any, **options: Any) -> Any:
            rounds.append(name)
            assert not torch.autograd._profiler_enabled()
            return loop(*args, **options)

        return ask

    monkeypatch.setattr(decoding, "decoding_loop", counted)
    record = decode(tiny_base, tmp_path / "d.json", profiled=True)
    assert len(rounds) == 4 * (1 + 2) + 4 * 3
    assert len(record.decoding) == 4
    for side in record.decoding:
        assert len(side.round_seconds) == 2
        found = require_whole(side.profile, steps=6)
        # The same in every step; the question's own pass would leave a fraction.
        products = {group.name: group for group in found.groups}["matrix products"]
        assert products.launches_per_step == int(products.launches_per_step) > 0
    text = shown(record)
    assert text.count("where the time went, a decoding step") == 4
    assert "gist, eager, fp32, 2 contexts" in text


def test_a_traced_round_that_does_not_fit_leaves_the_timed_ones_and_the_next_profile(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = LastLook.__call__
    failed: list[None] = []

    def full(self: LastLook) -> float:
        now = sound(self)
        if torch.autograd._profiler_enabled() and not failed:
            failed.append(None)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return now

    monkeypatch.setattr(LastLook, "__call__", full)
    first, *others = decode(tiny_base, tmp_path / "d.json", profiled=True).decoding
    assert isinstance(first.profile, NotMeasured) and "does not fit" in first.profile.not_measured
    assert len(first.round_seconds) == 2
    for side in others:
        require_whole(side.profile, steps=6)


def event(name: str, kind: str, start: float, end: float, **more: Any) -> SimpleNamespace:
    span = SimpleNamespace(start=start, end=end, elapsed_us=lambda: end - start)
    fields = {"is_user_annotation": False, **more}
    return SimpleNamespace(
        name=name, device_type=SimpleNamespace(name=kind), time_range=span, **fields
    )


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[SimpleNamespace]], list[Any]]:
    """Traces of a GPU as torch gives them, one stretch of 10 µs of wall time after the other."""
    asked: list[Any] = []

    def give(events: list[SimpleNamespace]) -> list[Any]:
        class Trace:
            def __init__(self, activities: Any) -> None:
                asked.append(activities)

            def start(self) -> None: ...

            def stop(self) -> None: ...

            def events(self) -> list[SimpleNamespace]:
                return events

        def ticks() -> Iterator[float]:
            now = 0.0
            while True:
                yield now
                now += 10e-6

        clock = ticks()
        monkeypatch.setattr(profile, "profile", Trace)
        every = set(torch.profiler.ProfilerActivity.__members__.values())
        monkeypatch.setattr(profile, "supported_activities", lambda: every)
        monkeypatch.setattr(profile, "synchronize", lambda _: None)
        monkeypatch.setattr(profile.time, "perf_counter", lambda: next(clock))
        return asked

    return give


def test_on_a_gpu_kernels_are_counted_and_what_nothing_ran_in_is_idle(
    traced: Callable[[list[SimpleNamespace]], list[Any]],
) -> None:
    asked = traced(
        [
            event("nvjet_tst_8x8", "CUDA", 0, 4),
            event("ncclDevKernel_AllReduce", "CUDA", 3, 6),
            event("Optimizer.step#AdamW.step", "CUDA", 0, 9, is_user_annotation=True),
            event("cudaLaunchKernel", "CPU", 0, 1),
        ]
    )
    profiler = Profiler("cuda:0")
    for _ in range(3):
        profiler.begin()
        profiler.end(steps=2)
    assert asked == [[torch.profiler.ProfilerActivity.CUDA]] * 3
    found = profiler.result()
    assert isinstance(found, Profile)
    assert (found.traced, found.steps) == ("kernels", 4)  # the first stretch is thrown away
    assert found.idle_share == pytest.approx(0.4)
    assert found.seconds_per_step == pytest.approx(5e-6)
    assert [(group.name, group.launches_per_step) for group in found.groups] == [
        ("matrix products", 0.5),
        ("communication", 0.5),
    ]
    assert found.groups[0].share == pytest.approx(4 / 7)


def test_where_no_kernel_is_seen_nothing_is_said_of_them(
    traced: Callable[[list[SimpleNamespace]], list[Any]],
) -> None:
    traced([event("cudaLaunchKernel", "CPU", 0, 1)])
    profiler = Profiler("cuda:0")
    for _ in range(2):
        profiler.begin()
        profiler.end(steps=1)
    found = profiler.result()
    assert isinstance(found, NotMeasured) and "saw no kernel" in found.not_measured


def test_a_torch_that_cannot_trace_kernels_costs_the_profile_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = {torch.profiler.ProfilerActivity.CPU}
    monkeypatch.setattr(profile, "supported_activities", lambda: cpu)
    profiler = Profiler("cuda:0")
    for _ in range(2):
        profiler.begin()
        profiler.end(steps=1)
    assert isinstance(profiler.result(), NotMeasured)


def test_tracing_writes_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    profiler = Profiler("cpu")
    profiler.begin()
    profiler.end(steps=1)
    assert capfd.readouterr() == ("", "")
    assert os.environ["KINETO_LOG_LEVEL"] == "6"


@pytest.mark.parametrize("looks", [3, 4])
def test_steps_are_traced_between_the_last_two_looks_at_the_clock(looks: int) -> None:
    done: list[object] = []
    watch = LastLook(
        SimpleNamespace(begin=lambda: done.append("begin"), end=done.append),  # type: ignore[arg-type]
        lambda: 0.0,
        steps=7,
    )
    for _ in range(2):
        for number in range(looks):
            watch()
            done.append(f"look {number}")
        watch.again()
    after = [f"look {number}" for number in range(looks)]
    assert done == [*after, *after[: looks - 2], "begin", after[-2], 7, after[-1]]
