"""Claims about the tasks beyond one passkey: what each hides, asks and counts as right."""

import hashlib
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

TASKS = Path(__file__).resolve().parents[2] / "tasks"


def _load_by_path() -> Any:
    """The module as lm-eval finds it: by path, in no package."""
    spec = importlib.util.spec_from_file_location("niah_under_test", TASKS / "niah.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


niah = _load_by_path()
LADDER = sorted(
    name
    for name, kind in niah.TASKS.items()
    if kind.trained and kind.has_haystack and name not in ("niah_passkey", "niah_passkey_ko")
)
SPLITS = ("train", "validation", "test")
every_task = pytest.mark.parametrize("task", LADDER)
every_split = pytest.mark.parametrize("split", SPLITS)


@lru_cache
def _tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte: nothing is trained, so nothing can differ between machines."""
    vocabulary = {c: n for n, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def _sample(task: str, index: int = 0, **changes: Any) -> Any:
    arguments = {"split": "test", "context_tokens": 3000, "seed": 0, **changes}
    return niah.build_sample(_tokenizer(), task=task, index=index, **arguments)


@every_task
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    context_tokens=st.integers(2000, 4000),
    index=st.integers(0, 10**6),
    split=st.sampled_from(SPLITS),
)
def test_context_is_exactly_as_long_as_asked(
    task: str, context_tokens: int, index: int, split: str
) -> None:
    sample = _sample(task, index, split=split, context_tokens=context_tokens)
    assert len(sample.context.encode()) == context_tokens  # a byte is a token here
    assert len(sample.prompt.encode()) == sample.prompt_tokens


@every_task
@every_split
def test_the_answer_stands_once_where_the_sample_says(task: str, split: str) -> None:
    for index in range(8):
        sample = _sample(task, index, split=split)
        if sample.num_needles == 0:
            assert (sample.answer, sample.needle, sample.depth) == ("none", "", None)
            continue
        assert sample.context[sample.needle_start : sample.needle_end] == sample.needle
        for value in sample.answer.split(", "):
            assert sample.context.count(value) == 1
            assert value not in sample.question
        assert sample.answer.split(", ")[0] in sample.needle


def _numbers(text: str) -> list[str]:
    return [found for found in re.findall(r"\d+", text) if len(found) > 4]


@pytest.mark.parametrize("count", [2, 4, 8])
def test_labelled_values_differ_and_the_question_names_one_label(count: int) -> None:
    asked = set()
    for index in range(24):
        sample = _sample(f"niah_labelled_{count}", index)
        values = _numbers(sample.context)
        assert len(set(values)) == len(values) == count
        label = re.search(r"pass key for (\w+)", sample.question)[1]  # type: ignore[index]
        assert sample.context.count(label) == 1
        assert label in sample.needle
        assert sample.answer in sample.needle
        asked.add(values.index(sample.answer))
    assert asked == set(range(count)), "the place of the answer can be guessed"


def test_all_values_are_asked_for_in_the_order_of_the_text() -> None:
    for index in range(6):
        sample = _sample("niah_all_values_4", index)
        assert sample.answer == ", ".join(_numbers(sample.context))
        assert sample.num_needles == 4


def test_two_questions_are_put_to_one_document() -> None:
    for index in range(0, 8, 2):
        first, second = (_sample("niah_two_questions", index + odd) for odd in (0, 1))
        assert first.context == second.context
        assert first.question != second.question
        assert first.needle != second.needle
        assert first.answer.isdigit()
        assert second.answer in niah.needles.labels("test")
        assert first.id != second.id
        other = _sample("niah_two_questions", index + 2)
        assert other.context != first.context


def test_every_second_document_of_absent_hides_nothing() -> None:
    for index in range(12):
        sample = _sample("niah_absent", index)
        assert bool(_numbers(sample.context)) == (index % 2 == 0)
        assert ("pass key" in sample.context.lower()) == (index % 2 == 0)


def test_the_later_statement_is_the_answer_of_update() -> None:
    for index in range(12):
        sample = _sample("niah_update", index)
        values = _numbers(sample.context)
        assert len(values) == 2
        assert sample.answer == values[-1] != values[0]


def test_needles_are_spread_over_the_document() -> None:
    for task in ("niah_labelled_8", "niah_update", "niah_two_questions", "niah_uuid"):
        depths = sorted(_sample(task, index).needle_depth for index in range(30))
        assert depths[0] < 0.3
        assert depths[-1] > 0.8
        assert max(b - a for a, b in pairwise(depths)) < 0.35


@pytest.mark.parametrize(
    ("task", "pattern"),
    [
        ("niah_digits_10", r"[1-9][0-9]{9}"),
        ("niah_digits_20", r"[1-9][0-9]{19}"),
        ("niah_digits_40", r"[1-9][0-9]{39}"),
        ("niah_uuid", r"[1-9a-f][0-9a-f]{31}"),
    ],
)
def test_values_have_the_digits_that_the_task_names(task: str, pattern: str) -> None:
    answers = [_sample(task, index).answer for index in range(20)]
    assert len(set(answers)) == 20
    assert all(re.fullmatch(pattern, answer) for answer in answers)


@every_task
def test_values_are_of_their_own_split(task: str) -> None:
    for split in SPLITS:
        for index in range(4):
            for value in _sample(task, index, split=split).answer.split(", "):
                if value[0].isdigit():
                    assert niah.needles.key_split(value) == split


@pytest.mark.parametrize("group", ["labelled_needles", "update_needles", "errand_needles"])
def test_wordings_and_labels_of_the_splits_are_disjoint(group: str) -> None:
    sets = [set(niah.needles.templates(group, split)) for split in SPLITS]
    assert all(sets)
    assert sum(map(len, sets)) == len(set().union(*sets))
    for template in set().union(*sets):
        for slot in ("{key}", "{label}"):
            wanted = not (
                (slot == "{label}" and group == "update_needles")
                or (slot == "{key}" and group == "errand_needles")
            )
            assert template.count(slot) == wanted, template
    labels = [set(niah.needles.labels(split)) for split in SPLITS]
    assert sum(map(len, labels)) == len(set().union(*labels))
    names = {name for split in SPLITS for name in niah.haystack.names("en", split)}
    words = {w for split in SPLITS for w in niah.haystack.vocabulary("en", split)}
    every = set().union(*labels)
    assert not every & names
    assert not {label.lower() for label in every} & words


def _training_labels(count: int, **how: bool) -> list[list[str]]:
    return [
        niah.needles.drawn_labels("train", count, f"sample/{index}", **how) for index in range(200)
    ]


def test_training_labels_are_mostly_on_no_list_and_none_is_of_another_split() -> None:
    drawn = _training_labels(4)
    assert all(len(set(labels)) == 4 for labels in drawn)
    every = {label for labels in drawn for label in labels}
    listed = set(niah.needles.labels("train"))
    assert len(every - listed) > 400
    assert every & listed
    words = {word.lower() for label in every for word in label.split()}
    for split in ("validation", "test"):
        others = {*niah.needles.labels(split), *niah.haystack.names("en", split)}
        assert not words & {label.lower() for label in others}
        assert not words & niah.haystack.vocabulary("en", split)
    assert any(label.startswith("the ") for label in every)
    proper = [label for labels in _training_labels(1, common=False) for label in labels]
    assert all(label[0].isupper() for label in proper)
    assert {label for labels in _training_labels(4, plain=True) for label in labels} == listed


@pytest.mark.parametrize("task", ["niah_labelled_4", "niah_two_questions"])
def test_training_sentences_about_labels_are_mostly_new(task: str) -> None:
    samples = [_sample(task, index, split="train") for index in range(1, 120, 2)]
    wordings = {sample.needle.split()[0] for sample in samples}
    assert len(wordings) > 25, "of the first words alone"
    for sample in samples:
        assert sample.answer in sample.needle
        assert not re.search(r"[<>\[\]{}]|\b[Tt]he the\b", sample.needle), sample.needle


def test_where_drawn_sentences_do_not_fit_fixed_ones_do() -> None:
    fixed = [
        re.compile(template.format(label=".+?", key="[0-9]+"))
        for template in niah.needles.templates("labelled_needles", "train")
    ]

    def share_of_fixed(context_tokens: int) -> float:
        samples = [
            _sample("niah_labelled_4", index, split="train", context_tokens=context_tokens)
            for index in range(20)
        ]
        told = [any(form.fullmatch(sample.needle) for form in fixed) for sample in samples]
        return sum(told) / len(told)

    assert share_of_fixed(215) == 1
    assert share_of_fixed(3000) < 0.6


@every_split
def test_nothing_but_its_digits_marks_a_stray_number(split: str) -> None:
    samples = [_sample("niah_stray_number", index, split=split) for index in range(60)]
    for sample in samples:
        assert "pass key" not in sample.context.lower()
        assert re.findall(r"(?<![0-9])[0-9]{5,}", sample.context) == [sample.answer]
        assert not re.search(r"[<>\[\]{}]", sample.needle + sample.question)
    questions = {sample.question for sample in samples}
    assert len(questions) > 25 if split == "train" else len(questions) == 1
    sentences = {sample.needle.replace(sample.answer, "#") for sample in samples}
    assert len(sentences) > 40


def test_the_splits_ask_for_stray_numbers_in_other_words() -> None:
    asked = [set(niah.haystack.data_of("en")["stray_questions"][split]) for split in SPLITS]
    assert sum(map(len, asked)) == len(set().union(*asked))


@every_task
def test_the_declared_floor_is_that_of_guessing(task: str) -> None:
    from gistbench import generators

    floor = generators.task_definition(task)["metadata"]["chance_floor"]
    kind = niah.TASKS[task]
    if kind.form == "absent":
        assert floor == 0.5
    elif kind.form == "two":
        assert floor == pytest.approx(0.5 / len(niah.needles.labels("test")))
    else:
        assert math.log2(floor) == pytest.approx(-_sample(task).entropy_bits, abs=0.001)


@every_task
def test_the_answer_fits_into_what_may_be_generated(task: str) -> None:
    from gistbench import generators

    allowed = generators.task_definition(task)["generation_kwargs"]["max_gen_toks"]
    longest = max(len(_sample(task, index).answer) for index in range(4))
    if task != "niah_two_questions":  # names are few tokens in any vocabulary
        assert longest + 2 <= allowed, "a token a character, and the stop"


def test_groups_hold_tasks_that_exist() -> None:
    from gistbench import generators
    from gistbench.errors import UsageError

    groups = generators.task_groups()
    assert {"gistbench_core", "gistbench_ladder"} == set(groups)
    assert set(groups["gistbench_ladder"]) == set(niah.TASKS)
    assert set(groups["gistbench_core"]) < set(niah.TASKS)
    expanded = generators.expand(("niah_uuid", "gistbench_core", "niah_uuid"))
    assert expanded == ("niah_uuid", *groups["gistbench_core"])
    with pytest.raises(UsageError, match="gistbench_core"):
        generators.expand(("gistbench_cor",))
    with pytest.raises(UsageError, match="names no task"):
        generators.expand(())


@pytest.mark.parametrize(
    ("output", "answer", "exact", "stated", "none"),
    [
        (" none", "none", 1, 0, 1),
        (" None of", "none", 0, 0, 1),
        (" None", "none", 1, 0, 1),
        (" 48213", "none", 0, 1, 0),
        (" 48213", "48213", 1, 1, 0),
        (" none", "48213", 0, 0, 1),
        ("", "none", 0, 0, 0),
    ],
)
def test_absent_tells_a_stated_key_from_a_refusal(
    output: str, answer: str, exact: float, stated: float, none: float
) -> None:
    scores = niah.process_results({"task": "niah_absent", "answer": answer}, [output])
    assert (scores["exact_match"], scores["stated_key"], scores["said_none"]) == (
        exact,
        stated,
        none,
    )


def _digests() -> dict[str, str]:
    prompts = {
        task: _sample(task, 3, seed=7, context_tokens=2000).prompt
        for task in sorted(set(niah.TASKS) - {"niah_passkey", "niah_passkey_ko"})
    }
    return {
        task: hashlib.sha256(prompt.encode()).hexdigest()[:8] for task, prompt in prompts.items()
    }


GOLDEN = {
    "document_topic": "1782fefc",
    "niah_absent": "43a74e5e",
    "niah_all_values_4": "83e8c9f7",
    "niah_digits_10": "6b66614f",
    "niah_digits_20": "2af3b757",
    "niah_digits_40": "8806065f",
    "niah_labelled_2": "297fec00",
    "niah_labelled_4": "c6d6337e",
    "niah_labelled_8": "4c4792d0",
    "niah_passkey_prose": "bbb6a123",
    "niah_passkey_wordings": "09727474",
    "niah_stray_number": "139f2f55",
    "niah_two_questions": "d3c75ede",
    "niah_update": "b965bd36",
    "niah_uuid": "469c5275",
    "word_frequency": "1a6ff54b",
}


def test_prompts_are_those_of_the_published_version() -> None:
    """A change here changes the benchmark: raise the version in the task files with it."""
    assert _digests() == GOLDEN


def test_a_fresh_process_with_another_hash_seed_gives_the_same_prompts() -> None:
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == GOLDEN


if __name__ == "__main__":
    print(json.dumps(_digests()))
