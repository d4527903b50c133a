"""The criteria are what CONCEPT.md says, and a broken block is a sentence with its line."""

import shutil

import pytest

from gistbench.errors import UsageError
from gistbench.report import criteria
from gistbench.report.criteria import concept_path, load_criteria


def test_the_block_holds_the_six_criteria_with_their_weights_and_targets():
    found = {c.id: (c.weight, c.target_text()) for c in load_criteria().criteria}
    assert found == {
        "compression_ratio": (20, "at least 100x"),
        "passkey_accuracy": (30, "above 90 %"),
        "vram": (15, "at least 50 %"),
        "throughput": (15, "at least 1x"),
        "global_understanding": (10, "good: at least 90 %; fair: at least 70 %"),
        "hallucination_rate": (10, "low: at most 2 %; medium: at most 10 %"),
    }


def test_good_and_low_earn_all_and_fair_and_medium_half():
    block = load_criteria()
    for name in ("global_understanding", "hallucination_rate"):
        assert [threshold.share for threshold in block[name].thresholds] == [1.0, 0.5]


def test_passkeys_are_judged_on_one_task_and_memory_with_32_contexts():
    block = load_criteria()
    assert block["passkey_accuracy"].conditions.task == "niah_passkey"
    assert block["vram"].conditions.contexts == block["throughput"].conditions.contexts == 32


def test_above_is_strict_and_at_least_is_not():
    block = load_criteria()
    assert not block["passkey_accuracy"].thresholds[0].meets(0.9)
    assert block["vram"].thresholds[0].meets(0.5)
    assert block["hallucination_rate"].thresholds[0].meets(0.02)


def test_an_installed_package_finds_its_own_copy(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "gistbench"
    (package / "report").mkdir(parents=True)
    monkeypatch.setattr(criteria, "__file__", str(package / "report" / "criteria.py"))
    with pytest.raises(UsageError, match=r"CONCEPT\.md is neither in"):
        concept_path()
    inside = package / "CONCEPT.md"
    inside.write_text("x")
    assert concept_path() == inside
    beside = tmp_path / "site-packages" / "CONCEPT.md"
    beside.write_text("x")
    assert concept_path() == beside


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("weight: 30", "weight: 31", "add up to 100"),
        ("weight: 30", "weight: thirty", "number"),
        ("id: vram", "id: throughput", "own id"),
        ("{grade: target, above: 0.90, share: 1.0}", "{grade: target, share: 1.0}", "exactly one"),
        ("above: 0.90", "at_most: 0.90", "direction"),
        ("at_least: 0.70, share: 0.5", "at_least: 0.95, share: 0.5", "best to worst"),
        ("above: 0.90", "above: .nan", "finite"),
        ("weight: 30", "wieght: 30", "wieght"),
        ("weight: 30", "weight: [30", "not valid YAML"),
        ("```yaml criteria", "```yaml", "exactly one"),
    ],
)
def test_a_broken_block_is_one_sentence(tmp_path, old, new, problem):
    text = concept_path().read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "CONCEPT.md"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError, match=problem) as caught:
        load_criteria(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_error_names_the_line(tmp_path):
    text = concept_path().read_text(encoding="utf-8")
    line = text[: text.index("weight: 30")].count("\n") + 1
    path = tmp_path / "CONCEPT.md"
    path.write_text(text.replace("weight: 30", "weight: thirty"), encoding="utf-8")
    with pytest.raises(UsageError, match=f"line {line}:"):
        load_criteria(path)


def test_two_blocks_are_refused_and_so_is_a_missing_file(tmp_path):
    path = tmp_path / "CONCEPT.md"
    path.write_text(concept_path().read_text(encoding="utf-8") * 2, encoding="utf-8")
    with pytest.raises(UsageError, match="found 2"):
        load_criteria(path)
    with pytest.raises(UsageError, match="cannot be read"):
        load_criteria(tmp_path / "nowhere.md")


def test_the_concept_text_survives_a_copy(tmp_path):
    shutil.copy(concept_path(), tmp_path / "CONCEPT.md")
    assert load_criteria(tmp_path / "CONCEPT.md") == load_criteria()
