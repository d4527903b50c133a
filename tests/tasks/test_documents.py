"""Claims about the tasks that ask about a document as a whole."""

import random
import re
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gistbench import generators
from gistbench.arms.base import Prompt
from gistbench.evaluation.lm import with_donors
from gistbench.models.prompts import PromptTokens
from gistbench.report.controls import control_verdict

SPLITS = ("train", "validation", "test")
every_split = pytest.mark.parametrize("split", SPLITS)
every_task = pytest.mark.parametrize("task", ["document_topic", "word_frequency"])
SERIES = "document_topic/test/4925/seed0"


def _sample(niah: Any, tokenizer: Any, task: str, index: int = 0, **changes: Any) -> Any:
    arguments = {"split": "test", "context_tokens": 3000, "seed": 0, **changes}
    return niah.build_sample(tokenizer, task=task, index=index, **arguments)


@every_task
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    context_tokens=st.integers(1200, 5000),
    index=st.integers(0, 10**6),
    split=st.sampled_from(SPLITS),
)
def test_context_is_exactly_as_long_as_asked(
    niah: Any, byte_tokenizer: Any, task: str, context_tokens: int, index: int, split: str
) -> None:
    sample = _sample(niah, byte_tokenizer, task, index, split=split, context_tokens=context_tokens)
    assert len(sample.context.encode()) == context_tokens  # a byte is a token here
    assert sample.depth is sample.needle_depth is sample.needle_start is sample.needle_end is None
    assert sample.num_needles > 1


def _theme_words(niah: Any, split: str, theme: str) -> re.Pattern[str]:
    words = niah.documents.themes(split)[theme]
    both = [form for word in words for form in (word, niah.inflection.plural(word, {}))]
    return re.compile(rf"(?<![\w-])(?:{'|'.join(both)})(?![\w-])", re.IGNORECASE)


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.?!])\s+", text)


@every_split
def test_three_sentences_are_on_the_theme_for_one_on_each_other(
    niah: Any, byte_tokenizer: Any, split: str
) -> None:
    for index in range(8):
        sample = _sample(niah, byte_tokenizer, "document_topic", index, split=split)
        assert sample.answer in sample.choices and len(set(sample.choices)) == 4
        assert ", ".join(sample.choices[:3]) in sample.question
        for theme in niah.documents.themes(split):
            pattern = _theme_words(niah, split, theme)
            found = sum(bool(pattern.search(s)) for s in _sentences(sample.context))
            rounds = 3000 // 500
            wanted = 3 * rounds if theme == sample.answer else rounds
            assert found == (wanted if theme in sample.choices else 0), theme
            assert theme not in sample.context.lower().split()


def test_the_theme_is_all_over_the_document(niah: Any, byte_tokenizer: Any) -> None:
    for index in range(8):
        sample = _sample(niah, byte_tokenizer, "document_topic", index)
        places = [
            match.start() / len(sample.context)
            for match in _theme_words(niah, "test", sample.answer).finditer(sample.context)
        ]
        assert places[0] < 0.25 and places[-1] > 0.75
        assert max(b - a for a, b in pairwise(places)) < 0.4


def test_the_commonest_coded_word_occurs_twice_as_often_as_the_next(
    niah: Any, byte_tokenizer: Any
) -> None:
    for split in SPLITS:
        coded = set(niah.documents.coded_words(split))
        for index in range(6):
            sample = _sample(niah, byte_tokenizer, "word_frequency", index, split=split)
            words = re.findall(r"[a-z]+", sample.context.lower())
            counts = Counter(word for word in words if word in coded).most_common()
            assert len(counts) == niah.documents.CODED_IN_DOCUMENT
            assert counts[0][0] == sample.answer
            assert counts[0][1] == 2 * counts[1][1] == 2 * (3000 // 500)
            assert sum(times for _, times in counts) == sample.num_needles


def test_themes_and_their_words_belong_to_one_split_alone(niah: Any) -> None:
    taken = {word.lower() for split in SPLITS for word in niah.haystack.vocabulary("en", split)}
    taken |= {name.lower() for split in SPLITS for name in niah.haystack.names("en", split)}
    taken |= {label.lower() for split in SPLITS for label in niah.needles.labels(split)}
    taken |= niah.haystack.function_words("en")
    for split in SPLITS:
        assert len(niah.documents.themes(split)) >= 8
        for theme, words in niah.documents.themes(split).items():
            assert len(words) >= 9
            own = {theme, *words, *(niah.inflection.plural(word, {}) for word in words)}
            assert not own & taken, theme
            taken |= own


def test_coded_words_belong_to_one_split_and_to_no_language(niah: Any) -> None:
    sets = [set(niah.documents.coded_words(split)) for split in SPLITS]
    assert sum(map(len, sets)) == len(set().union(*sets))
    every = set().union(*sets)
    assert not every & {word for split in SPLITS for word in niah.haystack.vocabulary("en", split)}
    # Training also coins words, and these have a q only before a u.
    assert all(re.fullmatch(r"[a-z][aeiou]q[aeio][a-z]", word) for word in every)
    coined = niah.haystack.data_of("en")["coined"]
    assert not re.search(r"q(?!u)", " ".join(coined.values()))


@pytest.mark.parametrize("group", ["theme_sentences", "coded_sentences"])
def test_sentences_are_of_one_split_and_hold_only_slots_and_function_words(
    niah: Any, group: str
) -> None:
    groups = niah.documents._data()[group]
    every = [template for split in SPLITS for template in groups[split]]
    every += [text for split in SPLITS for text in niah.haystack.sentence_templates("en", split)]
    assert len(every) == len(set(every))
    for template in (template for split in SPLITS for template in groups[split]):
        words = re.sub(r"\[[^]]*\]|[.,?]", " ", template).split()
        assert set(words) <= niah.haystack.function_words("en"), template
    slot = "[theme" if group == "theme_sentences" else "[code]"
    assert all(slot in template for split in SPLITS for template in groups[split])


def test_no_guess_without_the_document_beats_one_in_four(niah: Any) -> None:
    blocks = 400
    named = [niah.documents.topic_choices("test", SERIES, index) for index in range(blocks)]
    right = [niah.documents.topic_answer("test", SERIES, index) for index in range(blocks)]
    for place in range(4):  # exactly, so that no lazy control looks like a leak
        assert sum(c[place] == r for c, r in zip(named, right, strict=True)) == blocks / 4
    for theme in niah.documents.themes("test"):
        hits = [r == theme for c, r in zip(named, right, strict=True) if theme in c]
        assert sum(hits) == len(hits) / 4
    floor = generators.task_definition("document_topic")["metadata"]["chance_floor"]
    assert floor == 1 / 4
    assert control_verdict(blocks // 4, blocks, floor).status == "OK"


def _prompts(niah: Any, tokenizer: Any, task: str, count: int) -> list[Prompt]:
    prompts = []
    for index in range(count):
        sample = _sample(niah, tokenizer, task, index, context_tokens=1200)
        tokens = PromptTokens([index], list(sample.question.encode()))
        prompts.append(
            Prompt(
                sample.id,
                "",
                sample.answer,
                tokens,
                context_text=sample.context,
                choices=sample.choices,
            )
        )
    return prompts


@pytest.mark.parametrize("count", [2, 3, 5, 6, 7, 33, 120])
def test_every_document_finds_a_donor(niah: Any, byte_tokenizer: Any, count: int) -> None:
    for task in ("document_topic", "word_frequency"):
        for prompt in with_donors(_prompts(niah, byte_tokenizer, task, count)):
            assert prompt.donor is not None
            assert prompt.donor.answer != prompt.answer
            if task == "document_topic":
                assert prompt.donor.answer in prompt.choices
            else:
                assert prompt.answer not in prompt.donor.context_text


def test_swapped_gists_stay_at_the_floor_however_well_they_are_read(
    niah: Any, byte_tokenizer: Any
) -> None:
    """An arm that follows a donor with some probability, else guesses, shows no leak."""
    prompts = with_donors(_prompts(niah, byte_tokenizer, "document_topic", 200))
    floor = generators.task_definition("document_topic")["metadata"]["chance_floor"]
    for followed in (0.0, 0.25, 0.5, 1.0):
        rates = []
        for seed in range(50):
            rng = random.Random(seed)
            hits = 0
            for prompt in prompts:
                assert prompt.donor is not None
                follows = rng.random() < followed
                said = prompt.donor.answer if follows else rng.choice(prompt.choices)
                hits += said == prompt.answer
            rates.append(hits / len(prompts))
        expected = (1 - followed) * floor
        assert sum(rates) / len(rates) == pytest.approx(expected, abs=0.015)
        assert control_verdict(round(expected * 200), 200, floor).status == "OK"
    leaked = 0.6 * 200  # and an arm that knows its own document is told apart
    assert control_verdict(round(leaked), 200, floor)[0] == "INVALID-LEAK"


def test_coded_words_are_as_likely_as_declared(niah: Any) -> None:
    pool = niah.documents.coded_words("test")
    metadata = generators.task_definition("word_frequency")["metadata"]
    assert metadata["chance_floor"] == 1 / len(pool)
    answers = Counter(
        niah.documents.coded_in("test", "series", index)[0] for index in range(20 * len(pool))
    )
    assert set(answers) <= set(pool)
    assert max(answers.values()) < 3 * 20  # 20 expected of each


@every_task
def test_entropy_is_that_of_the_floor(niah: Any, byte_tokenizer: Any, task: str) -> None:
    sample = _sample(niah, byte_tokenizer, task)
    floor = generators.task_definition(task)["metadata"]["chance_floor"]
    assert 2**-sample.entropy_bits == floor


@every_task
def test_how_a_word_is_written_says_nothing(niah: Any, task: str) -> None:
    right = niah.process_results({"task": task, "answer": "boqam"}, [" Boqam"])
    assert right == {"exact_match": 1.0, "contains": 1.0, "digit_accuracy": 1.0}
    wrong = niah.process_results({"task": task, "answer": "boqam"}, [" the word boqam"])
    assert (wrong["exact_match"], wrong["contains"]) == (0.0, 1.0)


@every_task
def test_a_users_haystack_leaves_the_document_alone(
    niah: Any, byte_tokenizer: Any, task: str
) -> None:
    with_text = _sample(niah, byte_tokenizer, task, text="no such folder")
    assert with_text == _sample(niah, byte_tokenizer, task)


def test_a_word_fits_into_what_may_be_generated() -> None:
    for task, longest in (("document_topic", 2), ("word_frequency", 5)):
        allowed = generators.task_definition(task)["generation_kwargs"]["max_gen_toks"]
        assert longest + 2 <= allowed
