"""The gate catches faults: each is put into the code, the run is real, and the verdict is 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import gistbench.arms.gist as gist_arm
import gistbench.arms.swapped as swapped_arm
import gistbench.core.attention as core_attention
from gistbench.gate.findings import GateReport
from gistbench.gate.gating import gate
from gistbench.records import SampleRecord
from gistbench.storage import SAMPLES_FILE, read_jsonl, write_jsonl
from tests.gate.conftest import NUM_SAMPLES

Again = Callable[[], Path]


def worse(report: GateReport) -> set[tuple[str, str]]:
    return {(f.check, f.subject) for f in report.findings if f.verdict == "regression"}


def test_the_same_code_passes(again: Again, sound_baseline: Path) -> None:
    report = gate(again(), sound_baseline)
    assert (report.verdict, report.exit_code) == ("pass", 0)
    accuracy = [found for found in report.findings if found.check == "accuracy"]
    assert len(accuracy) == 2
    assert all("lost 0, gained 0" in found.text for found in accuracy)
    assert all(int(found.before.split()[0]) > 60 for found in accuracy)  # something can be lost


def test_a_mask_that_masks_nothing_is_caught(
    again: Again, sound_baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seed's own fault: a mask that lets every token of the context see the future."""

    def sees_everything(query: Any, key: Any, value: Any, scaling: float, *_: Any) -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value, scale=scaling, enable_gqa=True)

    monkeypatch.setattr(core_attention, "_causal", sees_everything)
    report = gate(again(), sound_baseline)
    assert report.exit_code == 1
    assert ("accuracy", "gist on niah_passkey") in worse(report)


def test_a_mask_that_hides_the_context_from_the_gists_is_caught(
    again: Again, sound_baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_gists(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Any, *rest: Any
    ) -> torch.Tensor:
        first = layout.prefix_length - layout.num_visible
        scaling = rest[0]
        if first == 0:
            return core_attention._causal(query, key, value, scaling, None, 0.0)
        parts = [
            core_attention._causal(
                *(t[:, :, part] for t in (query, key, value)), scaling, None, 0.0
            )
            for part in (slice(None, first), slice(first, None))
        ]
        return torch.cat(parts, dim=2)

    monkeypatch.setattr(core_attention, "_prefix", only_gists)
    report = gate(again(), sound_baseline)
    assert report.exit_code == 1
    assert ("accuracy", "gist on niah_passkey") in worse(report)
    assert ("accuracy", "full on niah_passkey") not in worse(report)


def test_a_context_that_stays_in_the_cache_is_caught(
    again: Again, sound_baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = gist_arm.read_contexts

    def keeps_all(model: Any, contexts: Any, **options: Any) -> Any:
        return read(model, contexts, **{**options, "keep_all": True})

    monkeypatch.setattr(gist_arm, "read_contexts", keeps_all)
    report = gate(again(), sound_baseline)
    assert report.exit_code == 1
    assert ("cache bytes", "gist") in worse(report)


def test_a_cache_that_leaks_into_a_control_is_caught(
    again: Again, sound_baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No byte more, but swapped gists are the document's own: the control knows its key."""

    def own_gists(self: Any, reader: Any, prompts: Sequence[Any]) -> Any:
        return gist_arm.Gist().read(reader, prompts)

    monkeypatch.setattr(swapped_arm.Swapped, "read", own_gists)
    report = gate(again(), sound_baseline)
    assert report.exit_code == 1
    assert worse(report) == {("controls", "swapped")}


def test_a_doubled_cache_is_caught(
    again: Again, sound_baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = gist_arm.read_contexts

    def twice(model: Any, contexts: Any, *, gist_ids: Any, **options: Any) -> Any:
        return read(model, contexts, gist_ids=(*gist_ids, *gist_ids), **options)

    monkeypatch.setattr(gist_arm, "read_contexts", twice)
    report = gate(again(), sound_baseline)
    assert report.exit_code == 1
    (found,) = [f for f in report.findings if (f.check, f.subject) == ("cache bytes", "gist")]
    assert (found.verdict, found.before, found.after) == ("regression", "6.0 KiB", "12.0 KiB")


def test_ten_points_less_are_caught(sound_run: Path, sound_baseline: Path, tmp_path: Path) -> None:
    """The sound run, with a tenth of all answers, all of them right ones, spoilt."""
    samples = list(read_jsonl(sound_run / SAMPLES_FILE, SampleRecord))
    right = [s for s in samples if s.arm == "gist" and s.scores["exact_match"] == 1]
    spoilt = {sample.sample_id for sample in right[: NUM_SAMPLES // 10]}

    def changed(sample: SampleRecord) -> SampleRecord:
        if sample.arm != "gist" or sample.sample_id not in spoilt:
            return sample
        scores = {**sample.scores, "exact_match": 0.0}
        return sample.model_copy(update={"output": "no idea", "scores": scores})

    (tmp_path / "run.json").write_bytes((sound_run / "run.json").read_bytes())
    write_jsonl(tmp_path / SAMPLES_FILE, map(changed, samples))
    report = gate(tmp_path, sound_baseline)
    assert report.exit_code == 1
    assert worse(report) == {("accuracy", "gist on niah_passkey")}
    (found,) = [f for f in report.findings if f.verdict == "regression"]
    assert "lost 10, gained 0: -10.0 points" in found.text
