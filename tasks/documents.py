"""Documents that are asked about as a whole: what they are mostly about, which word is commonest.

Nothing that is asked for stands in a sentence of its own. Sentences that count are hidden in the
haystack as needles are, so that how many there are of each kind is exact at any length.
"""

import json
import math
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import haystack, inflection
from .plans import Plan, Task

NUM_CHOICES = 4
TOPIC_RATIO = 3
"""Sentences on the theme of the document for each on another theme that the question names."""

CODED_IN_DOCUMENT = 8
LEAD = 2
"""Times that the commonest coded word occurs for each time of the second."""

_TOKENS_PER_ROUND = 500
_CODED_WORDS = {"validation": 64, "test": 256}
_CONSONANTS, _VOWELS, _AFTER_Q = "bdfgklmnprstvz", "aeiou", "aeio"  # coined words have qu alone

_TOPIC_QUESTION = (
    " \n\nOf {0}, {1}, {2} and {3}, what is the text above mostly about? It is mostly about"
)
_FREQUENCY_QUESTION = (
    " \n\nWhich coded word occurs most often in the text above? The most frequent coded word is"
)


def plan_document(
    kind: Task,
    split: haystack.Split,
    series: str,
    index: int,
    context_tokens: int,
    redraw: int,
) -> Plan:
    """What sample ``index`` of a series says and is asked; ``redraw`` varies its sentences."""
    rounds = max(1, context_tokens // _TOKENS_PER_ROUND)
    rng = random.Random(haystack.number_of(f"{series}/{index}/document/{redraw}"))
    write = _Sentences(split, rng)
    if kind.form == "topic":
        choices = topic_choices(split, series, index)
        answer = topic_answer(split, series, index)
        stated = []
        for theme in choices:
            times = TOPIC_RATIO * rounds if theme == answer else rounds
            stated += [write.on_theme(theme) for _ in range(times)]
        question, bits = _TOPIC_QUESTION.format(*choices), math.log2(NUM_CHOICES)
    else:
        words = coded_in(split, series, index)
        answer, choices, stated = words[0], (), []
        for place, word in enumerate(words):
            times = max(1, LEAD * rounds // (place + 1))
            stated += [write.with_code(word) for _ in range(times)]
        question, bits = _FREQUENCY_QUESTION, math.log2(len(coded_words(split)))
    needles = _shuffled(stated, rng)
    depths = tuple((place + rng.random()) / len(needles) for place in range(len(needles)))
    return Plan(needles, depths, (question,), answer, bits, None, choices)


class _Sentences:
    """Writes sentences that count, no two of them alike."""

    def __init__(self, split: haystack.Split, rng: random.Random) -> None:
        self.split = split
        self.writer = haystack.Writer("en", split, rng)
        self.written: set[str] = set()

    def on_theme(self, theme: str) -> str:
        """A sentence with words of a theme's vocabulary."""
        return self._written("theme_sentences", "[theme", themes(self.split)[theme])

    def with_code(self, word: str) -> str:
        """A sentence with a coded word, once."""
        return self._written("coded_sentences", "[code", (word,))

    def _written(self, group: str, slot: str, words: Sequence[str]) -> str:
        templates = _data()[group][self.split]
        while True:
            text = str(self.writer.pick(templates))
            while slot in text:
                word = str(self.writer.pick(words))
                found = text.index(slot)
                end = text.index("]", found)
                if text[found:end].endswith(":s"):
                    word = inflection.plural(word, {})
                text = text[:found] + word + text[end + 1 :]
            sentence = self.writer.fill(haystack.parse_template(text))
            if sentence not in self.written:
                self.written.add(sentence)
                return sentence


def themes(split: str) -> Mapping[str, tuple[str, ...]]:
    """Themes and their vocabularies; the splits share neither."""
    found = _data()["themes"][haystack.require_split(split)]
    return {theme: tuple(words.split()) for theme, words in found.items()}


def topic_choices(split: haystack.Split, series: str, index: int) -> tuple[str, ...]:
    """The themes that the question of sample ``index`` names, in its order.

    Samples come in blocks of four that have the same themes. In a block each theme is right once,
    and each place once, so that no guess without the document does better than one in four. The
    next block replaces one theme: a document on another of the four is always near.
    """
    window, answers, places = _block(split, series, index // NUM_CHOICES)
    at = index % NUM_CHOICES
    answer = answers[at]
    others = [theme for theme in _mixed(window, f"{series}/{index}/choices") if theme != answer]
    return (*others[: places[at]], answer, *others[places[at] :])


def topic_answer(split: haystack.Split, series: str, index: int) -> str:
    """The theme of sample ``index``."""
    return _block(split, series, index // NUM_CHOICES)[1][index % NUM_CHOICES]


def _block(
    split: haystack.Split, series: str, block: int
) -> tuple[list[str], list[str], list[int]]:
    """Themes of a block, and of its samples the right theme and its place in the question."""
    ring = list(themes(split))
    turn, start = divmod(block, len(ring))
    ring = _mixed(ring, f"{series}/ring/{turn}")
    window = [ring[(start + step) % len(ring)] for step in range(NUM_CHOICES)]
    places = _mixed([str(place) for place in range(NUM_CHOICES)], f"{series}/{block}/places")
    return window, _mixed(window, f"{series}/{block}/answers"), [int(place) for place in places]


@lru_cache
def coded_words(split: str) -> tuple[str, ...]:
    """All coded words of a split, such as ``boqam``; the splits share none."""
    part = haystack.require_split(split)
    every = [
        first + vowel + "q" + second + last
        for first in _CONSONANTS
        for vowel in _VOWELS
        for second in _AFTER_Q
        for last in _CONSONANTS
    ]
    mixed = _mixed(every, "word_frequency/coded")
    held_out = sum(_CODED_WORDS.values())
    if part == "train":
        return tuple(mixed[held_out:])
    first_test = _CODED_WORDS["validation"]
    return tuple(mixed[:first_test] if part == "validation" else mixed[first_test:held_out])


def coded_in(split: haystack.Split, series: str, index: int) -> list[str]:
    """The coded words of document ``index``, the commonest first.

    Documents near each other share none, so that no donor of swapped gists holds the answer.
    """
    pool = coded_words(split)
    turn, place = divmod(index, len(pool) // CODED_IN_DOCUMENT)
    mixed = _mixed(pool, f"{series}/coded/{turn}")
    return mixed[place * CODED_IN_DOCUMENT : (place + 1) * CODED_IN_DOCUMENT]


def _mixed(options: Sequence[str], name: str) -> list[str]:
    """All options in an order that ``name`` decides."""
    return sorted(options, key=lambda option: haystack.number_of(f"{name}/{option}"))


def _shuffled(sentences: list[str], rng: random.Random) -> tuple[str, ...]:
    keyed = [(rng.random(), sentence) for sentence in sentences]
    return tuple(sentence for _, sentence in sorted(keyed))


@lru_cache
def _data() -> dict[str, Any]:
    path = Path(__file__).with_name("documents_en.json")
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data
