"""Claims about baselines: what is in them, how large they are, and who may write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gistbench.errors import UsageError
from gistbench.gate.accepting import accept
from gistbench.gate.baseline import read_baseline
from gistbench.gate.gating import gate
from gistbench.records import SampleRecord
from tests.fixtures.synthetic_run import KV, SyntheticRun

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "results" / "published" / "smollm2-135m-gist-10"
RUN = SyntheticRun(num_samples=100, hits={"gist": 95, "full": 40, "swapped": 0, "none": 0})


def accepted(run: SyntheticRun, tmp_path: Path, reason: str = "first") -> Path:
    return accept(run.write(tmp_path / "run"), name="main", reason=reason, folder=tmp_path)


def test_a_baseline_holds_every_outcome_by_its_prompt(tmp_path: Path) -> None:
    found = read_baseline(accepted(RUN, tmp_path))
    (cell,) = found.cells
    for arm in RUN.hits:
        right = {
            s.prompt_sha256[:16]: s.scores["exact_match"] == 1
            for s in RUN.samples()
            if s.arm == arm
        }
        assert cell.right(arm) == right
    assert cell.arms["gist"].cache_bytes == 100 * 10 * KV
    assert cell.arms["full"].cache_tokens == 100 * 4925


def test_a_baseline_says_where_it_comes_from_and_why(tmp_path: Path) -> None:
    found = read_baseline(accepted(RUN, tmp_path, "  the release of May  "))
    run = RUN.record()
    assert found.reason == "the release of May"
    assert found.origin.command == run.command
    assert found.origin.git_commit == run.provenance.git_commit
    assert found.origin.packages == run.provenance.packages
    assert found.model.checkpoint_sha256 == "ef" * 32
    assert found.accepted > "2026"


def test_a_thousand_samples_of_four_arms_stay_small(tmp_path: Path) -> None:
    """Of the published run: 5.7 MB of samples."""
    path = accept(PUBLISHED, name="published", reason="size", folder=tmp_path)
    assert path.stat().st_size < 30_000
    assert sum(cell.num_samples for cell in read_baseline(path).cells) == 1000


def test_it_holds_no_text_of_prompts_or_answers(tmp_path: Path) -> None:
    text = accepted(RUN, tmp_path).read_text(encoding="utf-8")
    sample = RUN.samples()[0]
    assert sample.expected not in text and sample.excerpt not in text


def test_the_same_run_gives_the_same_file_but_for_the_date(tmp_path: Path) -> None:
    first = accepted(RUN, tmp_path / "a").read_text(encoding="utf-8").splitlines()
    mixed = RUN.but(hits=dict(reversed(RUN.hits.items())))  # arms in another order
    again = accepted(mixed, tmp_path / "b").read_text(encoding="utf-8").splitlines()
    differing = [(one, two) for one, two in zip(first, again, strict=True) if one != two]
    assert all('"accepted"' in one for one, _ in differing)


def test_one_changed_answer_is_one_changed_line_of_outcomes(tmp_path: Path) -> None:
    def one_wrong(sample: SampleRecord) -> SampleRecord:
        if (sample.arm, sample.index) != ("gist", 0):
            return sample
        return sample.model_copy(update={"scores": {"exact_match": 0.0}})

    first = accepted(RUN, tmp_path / "a").read_text(encoding="utf-8").splitlines()
    changed = RUN.but(sample_change=one_wrong)
    again = accepted(changed, tmp_path / "b").read_text(encoding="utf-8").splitlines()
    differing = [
        (one, two)
        for one, two in zip(first, again, strict=True)
        if one != two and '"accepted"' not in one
    ]
    assert len(differing) == 2  # the outcome and the count
    assert sum(a != b for a, b in zip(*differing[1], strict=True)) == 1


@pytest.mark.parametrize("reason", ["", "   "])
def test_a_reason_is_asked_for(tmp_path: Path, reason: str) -> None:
    with pytest.raises(UsageError, match="--reason"):
        accepted(RUN, tmp_path, reason)
    assert not (tmp_path / "main.json").exists()


def test_a_run_with_a_leak_is_no_baseline(tmp_path: Path) -> None:
    leaking = RUN.but(hits={"gist": 95, "full": 40, "swapped": 60, "none": 0})
    with pytest.raises(UsageError, match="cannot be a baseline: swapped"):
        accepted(leaking, tmp_path)


def test_a_name_is_a_file_name_everywhere(tmp_path: Path) -> None:
    run = RUN.write(tmp_path / "run")
    for name in ("../main", "Main", "a b", ""):
        with pytest.raises(UsageError, match="--name"):
            accept(run, name=name, reason="first", folder=tmp_path)


def test_a_gate_never_changes_a_baseline(tmp_path: Path) -> None:
    path = accepted(RUN, tmp_path)
    before = path.read_bytes()
    worse = RUN.but(hits={"gist": 50, "full": 40, "swapped": 0, "none": 0})
    assert gate(worse.write(tmp_path / "worse"), path).verdict == "regression"
    assert gate(RUN.write(tmp_path / "same"), path).verdict == "pass"
    assert path.read_bytes() == before


def test_a_disk_that_is_full_leaves_the_old_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = accepted(RUN, tmp_path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gistbench.storage.os.fsync", full)
    with pytest.raises(UsageError, match="no space left"):
        accept(tmp_path / "run", name="main", reason="second", folder=tmp_path)
    assert path.read_bytes() == before


def test_the_committed_self_baseline_is_whole() -> None:
    found = read_baseline(ROOT / "baselines" / "self.json")
    (cell,) = found.cells
    assert cell.arms["gist"].right > 100  # a fault has something to cost
    assert found.origin.git_dirty is False
    assert str(ROOT) not in json.dumps(found.model_dump(mode="json"))
