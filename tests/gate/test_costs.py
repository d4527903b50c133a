"""Claims about bytes, weights and memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gistbench.gate.accepting import accept
from gistbench.gate.findings import Finding, GateReport
from gistbench.gate.gating import gate
from gistbench.records import NotMeasured, SampleRecord, SteadyState
from tests.fixtures.synthetic_run import SyntheticRun

RUN = SyntheticRun(num_samples=100, hits={"gist": 95, "full": 40, "swapped": 0, "none": 0})
Gated = Callable[[SyntheticRun], GateReport]


@pytest.fixture
def gated(tmp_path: Path) -> Gated:
    """Gates a run against RUN."""
    baseline = accept(RUN.write(tmp_path / "a"), name="main", reason="first", folder=tmp_path)
    return lambda run: gate(run.write(tmp_path / "b"), baseline)


def only(report: GateReport, check: str, subject: str) -> Finding:
    (found,) = [f for f in report.findings if (f.check, f.subject) == (check, subject)]
    return found


def held(**changes: Any) -> SyntheticRun:
    """RUN with other memory while gist holds 32 contexts."""
    state = RUN.arm("gist").steady_many
    assert isinstance(state, SteadyState)
    return RUN.but(arm_changes={"gist": {"steady_many": state.model_copy(update=changes)}})


def allocated() -> int:
    state = RUN.arm("gist").steady_many
    assert isinstance(state, SteadyState)
    return state.torch_allocated_bytes


@pytest.mark.parametrize("change", [1, -1])
def test_one_byte_of_cache_is_a_regression_in_either_direction(gated: Gated, change: int) -> None:
    def changed(sample: SampleRecord) -> SampleRecord:
        if (sample.arm, sample.index) != ("gist", 3):
            return sample
        return sample.model_copy(update={"cache_bytes": sample.cache_bytes + change})

    report = gated(RUN.but(sample_change=changed))
    assert report.exit_code == 1
    assert only(report, "cache bytes", "gist").verdict == "regression"
    assert only(report, "cache bytes", "full").verdict == "pass"


def test_other_weights_are_a_regression(gated: Gated) -> None:
    report = gated(RUN.but(arm_changes={"full": {"weights_bytes": 269_999_999}}))
    assert only(report, "weights", "full").verdict == "regression"


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.009, "pass"), (1.011, "regression"), (0.5, "pass")]
)
def test_allocated_memory_may_grow_by_one_percent(
    gated: Gated, factor: float, verdict: str
) -> None:
    report = gated(held(torch_allocated_bytes=int(allocated() * factor)))
    assert only(report, "allocated memory", "gist, 32 contexts held").verdict == verdict
    assert only(report, "allocated memory", "gist, 1 context held").verdict == "pass"


@pytest.mark.parametrize(("mib", "verdict"), [(63, "pass"), (100, "regression")])
def test_device_memory_has_more_room(gated: Gated, mib: int, verdict: str) -> None:
    state = RUN.arm("gist").steady_many
    assert isinstance(state, SteadyState) and isinstance(state.device_used_bytes, int)
    report = gated(held(device_used_bytes=state.device_used_bytes + mib * 2**20))
    assert only(report, "device memory", "gist, 32 contexts held").verdict == verdict


def test_a_measurement_that_is_gone_is_refused_where_it_is_required(gated: Gated) -> None:
    gone = NotMeasured(not_measured="no NVIDIA GPU")
    report = gated(RUN.but(arm_changes={"gist": {"steady_many": gone}}))
    found = only(report, "allocated memory", "gist, 32 contexts held")
    assert (found.verdict, found.after) == ("refused", "not measured")
    assert only(report, "device memory", "gist, 32 contexts held").verdict == "not compared"
    assert report.exit_code == 2


def test_another_number_of_contexts_is_no_comparison(gated: Gated) -> None:
    found = only(gated(held(contexts_held=16)), "allocated memory", "gist, 32 contexts held")
    assert found.verdict == "refused"
    assert "32 contexts of 4,925 tokens were held then and 16 of 4,925 now" in found.text


def test_what_no_one_measured_is_not_compared(tmp_path: Path) -> None:
    run = RUN.but(gpu=False)
    path = accept(run.write(tmp_path / "a"), name="cpu", reason="first", folder=tmp_path)
    report = gate(tmp_path / "a", path)
    memory = {f.verdict for f in report.findings if f.check == "allocated memory"}
    assert (report.verdict, memory) == ("pass", {"not compared"})
