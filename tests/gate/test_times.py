"""Claims about times: repeats by turns, an effect beside the p value, and never one against one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gistbench.errors import UsageError
from gistbench.gate.accepting import accept
from gistbench.gate.baseline import RunTimes
from gistbench.gate.findings import Finding, GateReport
from gistbench.gate.gating import gate
from gistbench.gate.policy import load_policy
from gistbench.gate.times import by_turns, judge_times
from gistbench.records import SampleRecord, Timing
from tests.fixtures.synthetic_run import SyntheticRun

RUN = SyntheticRun(num_samples=80, hits={"gist": 76, "full": 30, "swapped": 0, "none": 0})
TIME = load_policy().time


def repeat(folder: Path, minute: int, factor: float, noise: random.Random) -> Path:
    """A run of one minute, slower by a factor and by chance."""
    spread = {arm: factor * noise.lognormvariate(0, 0.02) for arm in RUN.hits}

    def timed(sample: SampleRecord) -> SampleRecord:
        assert isinstance(sample.timing, Timing)
        seconds = sample.timing.first_token_seconds * spread[sample.arm]
        timing = sample.timing.model_copy(update={"first_token_seconds": seconds})
        return sample.model_copy(update={"timing": timing})

    created = f"2030-01-02T{minute // 60:02d}:{minute % 60:02d}:00+00:00"
    settings = {"batch_size": 1, "contexts_held": 32}
    run = RUN.but(sample_change=timed, run_changes={"created": created, "settings": settings})
    return run.write(folder / f"{minute}")


def sides(
    tmp_path: Path, *, runs: int, slowdown: float, turns: bool = True
) -> tuple[list[Path], list[Path]]:
    noise = random.Random(0)
    minutes = range(2 * runs)
    old = list(minutes)[::2] if turns else list(minutes)[:runs]
    new = [minute for minute in minutes if minute not in old]
    return (
        [repeat(tmp_path, minute, 1.0, noise) for minute in old],
        [repeat(tmp_path, minute, 1 + slowdown, noise) for minute in new],
    )


def gated(tmp_path: Path, old: list[Path], new: list[Path]) -> GateReport:
    path = accept(old[0], name="old", reason="main", repeats=old[1:], folder=tmp_path)
    return gate(new[0], path, None, new[1:])


def first_token(report: GateReport) -> Finding:
    (found,) = [f for f in report.findings if f.subject == "gist, first token"]
    return found


def test_ten_percent_slower_is_found(tmp_path: Path) -> None:
    report = gated(tmp_path, *sides(tmp_path, runs=12, slowdown=0.10))
    found = first_token(report)
    assert (found.verdict, report.exit_code) == ("regression", 1)
    assert "Cliff's delta +" in found.text and "12 and 12 runs" in found.text


def test_the_same_speed_passes(tmp_path: Path) -> None:
    report = gated(tmp_path, *sides(tmp_path, runs=12, slowdown=0.0))
    assert first_token(report).verdict == "pass"


@pytest.mark.parametrize("runs", [1, 11])
def test_too_few_runs_are_not_compared(tmp_path: Path, runs: int) -> None:
    report = gated(tmp_path, *sides(tmp_path, runs=runs, slowdown=3.0))
    found = first_token(report)
    assert found.verdict == "not compared"
    assert f"{runs} and {runs} runs; 12 on either side, by turns, are needed" in found.text
    assert report.verdict == "pass"


def test_runs_that_did_not_take_turns_are_not_compared(tmp_path: Path) -> None:
    found = first_token(gated(tmp_path, *sides(tmp_path, runs=12, slowdown=3.0, turns=False)))
    assert found.verdict == "not compared"
    assert "did not take turns" in found.text


def test_a_policy_may_require_times(tmp_path: Path) -> None:
    old, new = sides(tmp_path, runs=2, slowdown=0.0)
    path = accept(old[0], name="old", reason="main", repeats=old[1:], folder=tmp_path)
    policy = tmp_path / "policy.yaml"
    policy.write_text("time: {required: true}", encoding="utf-8")
    assert gate(new[0], path, policy, new[1:]).exit_code == 2


def test_a_repeat_of_something_else_is_refused(tmp_path: Path) -> None:
    old, _ = sides(tmp_path, runs=1, slowdown=0.0)
    other = RUN.but(run_changes={"settings": {"batch_size": 8, "contexts_held": 32}})
    with pytest.raises(UsageError, match="is no repeat of"):
        accept(
            old[0],
            name="old",
            reason="main",
            repeats=[other.write(tmp_path / "other")],
            folder=tmp_path,
        )
    with pytest.raises(UsageError, match="given twice"):
        accept(old[0], name="old", reason="main", repeats=[old[0]], folder=tmp_path)


def test_by_turns_allows_two_in_a_row() -> None:
    def side(*minutes: int) -> list[RunTimes]:
        return [RunTimes(created=f"2030-01-01T00:{m:02d}:00+00:00", seconds={}) for m in minutes]

    assert by_turns(side(0, 2, 4), side(1, 3, 5))  # A B A B A B
    assert by_turns(side(0, 3, 4), side(1, 2, 5))  # A B B A A B
    assert not by_turns(side(0, 1, 2), side(3, 4, 5))


def test_a_significant_but_small_slowdown_is_no_regression() -> None:
    """All repeats apart, by 1 %: the p value is tiny and the effect does not matter."""
    before = [1 + index / 1e5 for index in range(12)]
    after = [1.01 + index / 1e5 for index in range(12)]
    (found,) = judge_times([(before, after)], TIME)
    assert found.adjusted_p <= TIME.alpha and found.ranks.cliffs_delta == 1
    assert found.verdict == "pass"


def test_a_large_but_uncertain_slowdown_is_inconclusive() -> None:
    before = [1.0, 1.3, 0.8, 1.1, 0.9, 1.2, 1.4, 0.7, 1.05, 0.95, 1.15, 0.85]
    after = [value * 1.08 + 0.001 for value in reversed(before)]
    (found,) = judge_times([(before, after)], TIME)
    assert found.verdict == "inconclusive"
    assert found.repeats_needed is not None and found.repeats_needed > 12
