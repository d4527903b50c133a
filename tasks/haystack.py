"""Invented prose: words, names and sentence templates of each split, and what writes with them.

Stands alone with the word lists beside it; needs the standard library only. The three splits
share no content word, no name and no sentence template. English training texts are written by
a grammar beside their listed templates (:func:`sentence_grammar`), in a style that each document
draws for itself, coined words included: what a model must learn is what a needle is, not what these
haystacks look like.
"""

import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast, get_args

from .inflection import plural, with_particle

Language = Literal["en", "ko"]
Split = Literal["train", "validation", "test"]
Template = tuple[tuple[str, str, str, str], ...]
"""A run of (text, article, kind of word, form); the last kind is empty."""

_TEST_WORDS, _VALIDATION_NAMES = 0.5, 0.55  # bounds of the fraction that a word or name hashes to
_SLOT = re.compile(r"\[(a )?(\w+)(?::([^\]]+))?\]")
SYMBOL = re.compile(r"<(\w+)>")
# Styles that a training document draws from: shares of listed sentences, of coined words and of
# words put where another kind belongs, and how many of each rule's options it uses.
_LISTED, _COINED, _STRAYED, _KEPT = (0.0, 0.3, 1.0), (0.0, 0.0, 0.1, 0.4), (0.0, 0.0, 0.2, 1.0), 0.5
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ONES = ["four", "five", "six", "seven", "eight", "nine"]


class Writer:
    """Writes sentences of one language and split, drawing every word before repeating any.

    Where the split has a grammar, each writer also draws a style: how much it writes by the
    grammar, which half of the grammar's options it knows, and how odd its words are.
    """

    def __init__(self, language: Language, split: Split, rng: random.Random) -> None:
        data = data_of(language)
        self.language = language
        self.random = rng.random
        self.year = 0
        self.irregular: dict[str, str] = data.get("irregular", {})
        self.an_before = frozenset(data.get("an_before", "").split())
        self.a_before = frozenset(data.get("a_before", "").split())
        self.pools: dict[str, list[Any]] = {
            kind: list(words) for kind, words in _words(language, split).items()
        }
        self.kinds = tuple(self.pools)
        self.pools["name"] = list(names(language, split))
        self.pools["sentences"] = list(_templates(language, split, "sentences"))
        self.pools["short"] = list(_templates(language, split, "short"))
        self.drawn: dict[str, int] = dict.fromkeys(self.pools, 0)
        self.listed, self.coined, self.strayed = 1.0, 0.0, 0.0
        self.rules: dict[str, list[str]] = {}
        if rules := sentence_grammar(language, split):
            self.listed, self.coined = self.pick(_LISTED), self.pick(_COINED)
            self.strayed = self.pick(_STRAYED)
            for symbol, options in rules.items():
                known = [option for option in options if self.random() < _KEPT]
                self.rules[symbol] = known or [self.pick(options)]

    def pick(self, options: Sequence[Any]) -> Any:
        """Any of the options, each as likely."""
        return options[int(self.random() * len(options))]

    def draw(self, kind: str) -> Any:
        """The next entry of a lazily shuffled list; a new round begins when it is used up."""
        pool, done = self.pools[kind], self.drawn[kind]
        if done == len(pool):
            done = 0
        other = done + int(self.random() * (len(pool) - done))
        pool[done], pool[other] = pool[other], pool[done]
        self.drawn[kind] = done + 1
        return pool[done]

    def running(self) -> Iterator[str]:
        """Sentences without end, each with the white space before it."""
        until_break = int(self.random() * 5) + 3
        while True:
            separator = " " if until_break else "\n\n"
            until_break = until_break - 1 if until_break else int(self.random() * 5) + 3
            yield separator + self.sentence()

    def sentence(self) -> str:
        """A sentence of ordinary length."""
        return self._written("sentence", "sentences")

    def short_sentence(self) -> str:
        """A sentence of a few words, for landing on an exact length."""
        return self._written("short", "short")

    def _written(self, symbol: str, group: str) -> str:
        if self.rules and self.random() >= self.listed:
            return self.fill(parse_template(self.expand(f"<{symbol}>", self.rules)))
        return self.fill(self.draw(group))

    def expand(self, text: str, rules: Mapping[str, Sequence[str]]) -> str:
        """``text`` with every ``<symbol>`` replaced by one of its expansions, down to slots."""
        return SYMBOL.sub(lambda symbol: self.expand(self.pick(rules[symbol[1]]), rules), text)

    def fill(self, template: Sequence[tuple[str, str, str, str]]) -> str:
        """A sentence: a parsed template with a word in each of its slots."""
        parts: list[str] = []
        self.year = 0
        for before, article, kind, form in template:
            parts.append(before)
            if not kind:
                continue
            word = self._word(kind)
            if form:
                word = plural(word, self.irregular) if form == "s" else with_particle(word, form)
            if article:
                an = (word[0] in "aeiou" and word not in self.a_before) or word in self.an_before
                word = ("an " if an else "a ") + word
            parts.append(word)
        text = "".join(parts)
        return text[0].upper() + text[1:]

    def _word(self, kind: str) -> str:
        if kind not in self.pools:
            return self._numeral(kind)
        if kind != "name":
            if self.coined and self.random() < self.coined:
                return self.coin()
            if self.strayed and self.random() < self.strayed:
                kind = self.pick(self.kinds)
        word: str = self.draw(kind)
        return word

    def _numeral(self, kind: str) -> str:
        """A number as slots name it; none has five digits in a row, which only keys have."""
        if kind == "year":
            first = self.year == 0  # a second year in a sentence is a later one
            self.year += int(self.random() * 850) + 1100 if first else int(self.random() * 60) + 1
            return str(self.year)
        if kind == "num":
            return str(2 + int(self.random() * (97 if self.random() < 0.7 else 897)))
        if kind == "clock":
            return f"{int(self.random() * 24)}:{int(self.random() * 60):02d}"
        if kind == "decimal":
            return f"{self.random() * 100:.{1 + int(self.random() * 2)}f}"
        if kind == "thousand":
            return f"{1 + int(self.random() * 99)},{int(self.random() * 1000):03d}"
        if kind == "rank":
            return f"{4 + int(self.random() * 17)}th"
        return f"{self.pick(_TENS)}-{self.pick(_ONES)}"

    def coin(self) -> str:
        """A word that no list holds, and no other split."""
        parts = data_of(self.language)["coined"]
        reserved = _reserved(self.language)
        while True:
            word = "".join(
                self.pick(parts[part].split())
                for _ in range(1 + int(self.random() * 2))
                for part in ("start", "middle", "end")
            )
            if word not in reserved:
                return word


def word_split(word: str) -> Literal["train", "test"]:
    """The split of a word of the common lists, about half each; validation has lists of its own."""
    return "test" if fraction_of(f"niah/word/{word}") < _TEST_WORDS else "train"


def name_split(name: str) -> Split:
    """The split that an invented name belongs to: half of them test, one in twenty validation."""
    fraction = fraction_of(f"niah/word/{name}")
    if fraction < _TEST_WORDS:
        return "test"
    return "validation" if fraction < _VALIDATION_NAMES else "train"


def vocabulary(language: str, split: str) -> frozenset[str]:
    """Every listed content word that a haystack of this split may use, plural forms included.

    Training haystacks also hold coined words; none of these is in another split's vocabulary.
    """
    lang, part = require_language(language), require_split(split)
    data = data_of(lang)
    found: set[str] = set()
    for kind, words in _words(lang, part).items():
        found.update(words)
        if kind in data.get("countable", "").split():
            found.update(plural(word, data["irregular"]) for word in words)
    return frozenset(found)


@lru_cache
def names(language: str, split: str) -> tuple[str, ...]:
    """Every invented proper name that a haystack of this split may use."""
    lists = [part.split() for part in data_of(require_language(language))["names"].values()]
    found = [""]
    for syllables in lists:
        found = [head + tail for head in found for tail in syllables]
    part = require_split(split)
    words = frozenset().union(*(vocabulary(language, each) for each in get_args(Split)))
    chosen = (name for name in dict.fromkeys(found) if name_split(name) == part)
    return tuple(name for name in chosen if name not in words and name.lower() not in words)


def sentence_grammar(language: str, split: str) -> Mapping[str, Sequence[str]]:
    """Rules that write haystack sentences beside the listed templates: symbol -> its expansions.

    ``<symbol>`` is expanded, from ``<sentence>`` or ``<short>``: training has one in English, and
    it derives no sentence template of another split.
    """
    return grammar(language, split, "sentence_grammar")


def grammar(language: str, split: str, which: str) -> Mapping[str, Sequence[str]]:
    rules: Mapping[str, Sequence[str]] = (
        data_of(require_language(language)).get(which, {}).get(require_split(split), {})
    )
    return rules


def sentence_templates(language: str, split: str) -> tuple[str, ...]:
    """Listed sentence templates of the haystack, the short ones last."""
    data, part = data_of(require_language(language)), require_split(split)
    return (*data["sentences"][part], *data["short"][part])


def function_words(language: str) -> frozenset[str]:
    """The closed list of words that templates of both splits may use beside their slots."""
    return frozenset(data_of(require_language(language))["function_words"].split())


def require_language(language: str) -> Language:
    require_choice("language", language, get_args(Language))
    return "ko" if language == "ko" else "en"


def require_split(split: str) -> Split:
    require_choice("split", split, get_args(Split))
    return cast("Split", split)


def require_choice(what: str, value: str, allowed: Sequence[str] | Mapping[str, str]) -> str:
    if value not in allowed:
        raise ValueError(f"{what} is {value!r}; it must be one of {', '.join(allowed)}")
    return allowed[value] if isinstance(allowed, Mapping) else value


def number_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def fraction_of(text: str) -> float:
    return (number_of(text) >> 11) / 2**53


@lru_cache
def data_of(language: Language) -> dict[str, Any]:
    path = Path(__file__).with_name(f"words_{language}.json")
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


@lru_cache
def _words(language: Language, split: Split) -> dict[str, tuple[str, ...]]:
    if split == "validation":
        own = data_of(language)["validation_words"]
        return {kind: tuple(dict.fromkeys(words.split())) for kind, words in own.items()}
    return {
        kind: tuple(word for word in dict.fromkeys(words.split()) if word_split(word) == split)
        for kind, words in data_of(language)["words"].items()
    }


@lru_cache
def _reserved(language: Language) -> frozenset[str]:
    """Words that belong to the splits which are not trained on."""
    taken = [vocabulary(language, split) for split in ("validation", "test")]
    return frozenset().union(*taken)


def parse_template(template: str) -> tuple[tuple[str, str, str, str], ...]:
    """A template as a run of (text, article, kind of word, form); the last kind is empty."""
    closed = template if template[-1] in "?!." else template + "."
    pieces, end = [], 0
    for slot in _SLOT.finditer(closed):
        article, kind, form = slot.groups(default="")
        pieces.append((closed[end : slot.start()], article, kind, form))
        end = slot.end()
    return (*pieces, (closed[end:], "", "", ""))


@lru_cache
def _templates(
    language: Language, split: Split, group: str
) -> tuple[tuple[tuple[str, str, str, str], ...], ...]:
    """All parsed templates of a group."""
    return tuple(parse_template(template) for template in data_of(language)[group][split])
