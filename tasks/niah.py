"""Passkey retrieval ("needle in a haystack") samples of an exact length in tokens.

A sample is a long invented chronicle in which one sentence states a five-digit pass key, and a
question about that key. The whole prompt is ``context + question``; the right continuation is
``" " + answer``. Nothing stands before the context, so whatever reads or compresses it cannot know
the question.

The file stands alone: lm-eval loads it by path (``custom_dataset: !function niah.load``). It needs
the standard library, the two word lists beside it, and, inside :func:`load` only, ``datasets`` and
``transformers``.

Training, validation and test samples share no key, no needle wording, no sentence template, no
content word and no name: :func:`key_split`, :func:`needle_templates`, :func:`sentence_templates`,
:func:`vocabulary` and :func:`names` show each of these sets. Validation is for choosing between
recipes; only test is judged.

English training samples are written by grammars beside their fixed lists (:func:`needle_grammar`,
:func:`sentence_grammar`), in a style that each document draws for itself, coined words included:
what a model must learn is what a pass key is, not what these haystacks look like.
"""

import hashlib
import json
import math
import random
import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import datasets  # type: ignore[import-untyped,unused-ignore]

Language = Literal["en", "ko"]
Split = Literal["train", "validation", "test"]

TASKS: Mapping[str, Language] = {"niah_passkey": "en", "niah_passkey_ko": "ko"}
"""Task name -> language of its documents and question."""

QUESTIONS: Mapping[Language, str] = {
    "en": " \n\nWhat is the pass key mentioned in the text above? The pass key is the number",
    "ko": " \n\n위 글에 나오는 패스키는 무엇입니까? 패스키는 숫자",
}
"""The question of each language. It opens with a space because ``".\\n\\n"`` is a single token in
several vocabularies (Llama 3, Qwen), while ``" "`` never joins the full stop before it.

It ends with "the number" so that a model tuned on neither task states digits: without that word a
small base model goes on in prose, and the full-context score would measure wording."""

FIRST_KEY, LAST_KEY = 10_000, 99_999
CHANCE_FLOOR = 1 / (LAST_KEY - FIRST_KEY + 1)
"""Expected strict accuracy of guessing a key, a fraction."""

_GOLDEN = (math.sqrt(5) - 1) / 2
_TEST_SHARE, _VALIDATION_SHARE = 0.2, 0.05
_TEST_WORDS, _VALIDATION_NAMES = 0.5, 0.55  # bounds of the fraction that a word or name hashes to
_ATTEMPTS = 12
_SPARE = 14
_PIECE = re.compile(r"[^ ]*\n[^ ]+| ?[^ ]+")
_SLOT = re.compile(r"\[(a )?(\w+)(?::([^\]]+))?\]")
_SYMBOL = re.compile(r"<(\w+)>")
_NUMBER_SLOT = re.compile(r"\[(?:num|year|count|rank|clock|decimal|thousand)\]")
_NOUN_SLOT = re.compile(
    r"\[(?:a )?(?:object|tool|place|container|garment|vehicle|plant|material)\]"
)
_JOINTS = ("; ", ", and ", " while ", ", for ", ": ", ", so ", " because ", ", yet ", ", where ")
_FIXED_SHARE, _GRAMMAR_SHARE = 0.2, 0.3
# Styles that a training document draws from: shares of listed sentences, of coined words and of
# words put where another kind belongs, and how many of each rule's options it uses.
_LISTED, _COINED, _STRAYED, _KEPT = (0.0, 0.3, 1.0), (0.0, 0.0, 0.1, 0.4), (0.0, 0.0, 0.2, 1.0), 0.5
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ONES = ["four", "five", "six", "seven", "eight", "nine"]
_KEY = re.compile(r"\{key(?::([^}]+))?\}")

# Particle as templates write it -> its form after a consonant, after a vowel.
_PARTICLES = {
    "은": ("은", "는"),
    "이": ("이", "가"),
    "을": ("을", "를"),
    "과": ("과", "와"),
    "이며": ("이며", "며"),
    "이었": ("이었", "였"),
    "이라고": ("이라고", "라고"),
    "이라는": ("이라는", "라는"),
}
_RIEUL = 8  # number of the final consonant after which 으로 is shortened like after a vowel
_DIGIT_FINALS = (21, 8, 0, 16, 0, 0, 1, 8, 8, 0)  # as read aloud: 영 일 이 삼 사 오 육 칠 팔 구


@dataclass(frozen=True, slots=True)
class Sample:
    """One document, one question and its answer.

    Attributes:
        id: Stable name, such as ``niah_passkey/test/4925/seed0/17``.
        task: Name of the lm-eval task.
        index: Number of the sample within its seed, from 0.
        seed: Seed of the series.
        split: ``train``, ``validation`` or ``test``.
        language: ``en`` or ``ko``.
        context: The document, needle included.
        question: What follows the document, up to where the answer begins.
        answer: The five digits.
        context_tokens: Tokens of the prompt that belong to the context, a leading special token
            included, when context and question are tokenised together.
        prompt_tokens: Tokens of the whole prompt with the tokenizer's defaults.
        depth: Requested position of the needle, 0 (first sentence) to 1 (last).
        needle_depth: Index of the needle's first token / ``context_tokens``.
        needle: The sentence that states the key.
        needle_start: Offset of the needle in ``context``, in characters.
        needle_end: Offset after the needle's last character.
    """

    id: str
    task: str
    index: int
    seed: int
    split: Split
    language: Language
    context: str
    question: str
    answer: str
    context_tokens: int
    prompt_tokens: int
    depth: float
    needle_depth: float
    needle: str
    needle_start: int
    needle_end: int

    @property
    def prompt(self) -> str:
        """The whole prompt: context, then question, with nothing between or around them."""
        return self.context + self.question


def build_sample(
    tokenizer: Any,
    *,
    language: str,
    split: str,
    context_tokens: int,
    index: int,
    seed: int,
    depth: float | None = None,
) -> Sample:
    """Builds one sample; the same arguments give the same text in every process.

    Args:
        tokenizer: A fast Hugging Face tokenizer (it must report character offsets).
        language: ``en`` or ``ko``.
        split: ``train``, ``validation`` or ``test``.
        context_tokens: Exact length of the context in this tokenizer's tokens.
        index: Number of the sample, from 0.
        seed: Seed of the series.
        depth: Where the needle goes, 0 to 1; ``None`` takes the next point of a low-discrepancy
            sequence, so that every prefix of a series covers the depths evenly.

    Returns:
        The sample.

    Raises:
        ValueError: An argument is out of range, the tokenizer is not a fast one, or no text of
            exactly this length could be made.
    """
    lang, part = _language(language), _split(split)
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} is not a fast tokenizer: exact lengths need character "
            "offsets; load it with AutoTokenizer.from_pretrained(..., use_fast=True)"
        )
    if index < 0:
        raise ValueError(f"index is {index}; samples are numbered from 0")
    if depth is not None and not 0 <= depth <= 1:
        raise ValueError(f"depth is {depth}; it must lie between 0 and 1")
    task = next(name for name, spoken in TASKS.items() if spoken == lang)
    name = f"{task}/{part}/{context_tokens}/seed{seed}/{index}"
    if depth is None:
        depth = low_discrepancy_depth(seed, index)
    else:
        name += f"/depth{depth:g}"
    answer = _key(part, seed, index)
    needle = _needle(lang, part, name, answer)
    shortest = 0
    for attempt in range(_ATTEMPTS):
        if attempt and part == "train":  # one that a grammar wrote may be too long
            needle = _needle(lang, part, f"{name}/{attempt}", answer)
            if attempt == _ATTEMPTS - 1:
                needle = fill_needle(min(needle_templates(lang, part), key=len), answer)
        writer = _Writer(lang, part, random.Random(_number(f"{name}/{attempt}")))
        draft = _Draft(tokenizer, writer, needle, context_tokens)
        shortest = max(shortest, draft.shortest)
        fitted = draft.fit(depth, QUESTIONS[lang])
        if fitted is not None:
            context, start, prompt_tokens, needle_token = fitted
            return Sample(
                id=name,
                task=task,
                index=index,
                seed=seed,
                split=part,
                language=lang,
                context=context,
                question=QUESTIONS[lang],
                answer=answer,
                context_tokens=context_tokens,
                prompt_tokens=prompt_tokens,
                depth=depth,
                needle_depth=needle_token / context_tokens,
                needle=needle,
                needle_start=start,
                needle_end=start + len(needle),
            )
    if context_tokens < 2 * shortest:
        raise ValueError(
            f"context_tokens is {context_tokens}, too small in this tokenizer for the needle of "
            f"{name} and a sentence beside it; ask for at least {2 * shortest}"
        )
    raise ValueError(
        f"no text of exactly {context_tokens} tokens was found for {name} in {_ATTEMPTS} attempts; "
        "the tokenizer may join the context's end with the question, or lack these characters"
    )


class _Draft:
    """More sentences than needed, with an estimate of the tokens that each of them costs."""

    def __init__(self, tokenizer: Any, writer: "_Writer", needle: str, context_tokens: int) -> None:
        self.tokenizer, self.needle = tokenizer, needle
        costs = _Costs(tokenizer)
        self.needle_cost = costs.of_text(" " + needle)
        self.room = context_tokens - self.needle_cost - costs.leading
        self.target = context_tokens
        self.units: list[str] = []
        self.costs: list[int] = []
        total, until_break = 0, int(writer.random() * 5) + 3
        while total < self.room:
            separator = " " if until_break else "\n\n"
            until_break = until_break - 1 if until_break else int(writer.random() * 5) + 3
            self.units.append(separator + writer.sentence())
            self.costs.append(costs.of_unit(self.units[-1]))
            total += self.costs[-1]
        self.num_running = len(self.units)
        for spare in range(2 * _SPARE):
            sentence = writer.sentence() if spare < _SPARE else writer.short_sentence()
            self.units.append(" " + sentence)
            self.costs.append(costs.of_unit(self.units[-1]))
        self.shortest = costs.leading + self.needle_cost + min(self.costs)

    def fit(self, depth: float, question: str) -> tuple[str, int, int, int] | None:
        """Chooses sentences, puts the needle among them and checks the length of the whole.

        Returns:
            The context, the needle's offset in characters, the prompt's tokens and the index of
            the needle's first token; or ``None`` if no choice fits exactly.
        """
        correction = 0
        for step in range(_ATTEMPTS):
            chosen = self._choose(self.room + correction, step // 3)
            if chosen is None:
                continue
            place, passed = 0, 0
            while place < len(chosen):
                cost = self.costs[chosen[place]]
                if passed + cost / 2 > depth * self.room:
                    break
                passed += cost
                place += 1
            units = [self.units[i] for i in chosen]
            units.insert(place, " " + self.needle)
            context = "".join(units).lstrip()
            start = context.index(self.needle)
            starts, ends = _tokenize(self.tokenizer, context + question)
            seam = bisect_left(starts, len(context))
            if seam == self.target and ends[seam - 1] <= len(context) and seam < len(starts):
                return context, start, len(starts), bisect_right(ends, start)
            correction += self.target - seam
        return None

    def _choose(self, room: int, step: int) -> list[int] | None:
        """Numbers of sentences that cost ``room`` tokens: a run from the start, then fillers.

        ``step`` gives up that many more sentences of the run, for other choices of fillers.
        """
        run, cost = 0, 0
        while run < self.num_running and cost + self.costs[run] <= room:
            cost += self.costs[run]
            run += 1
        run = max(0, run - 1 - step)
        rest = room - sum(self.costs[:run])
        if rest < 0:
            return None
        sums: dict[int, list[int]] = {0: []}
        for filler in range(run, len(self.costs)):
            for total, used in list(sums.items()):
                new = total + self.costs[filler]
                if new <= rest and new not in sums:
                    sums[new] = [*used, filler]
            if rest in sums:
                return [*range(run), *sums[rest]]
        return None


class _Costs:
    """Estimates tokens piece by piece, so that only the finished prompt is tokenised whole.

    What a piece costs depends on the tokenizer alone, so the shared memory of earlier pieces saves
    time and never changes a result.
    """

    _known: ClassVar[WeakKeyDictionary[Any, tuple[int, dict[str, int]]]] = WeakKeyDictionary()

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        size, pieces = self._known.get(tokenizer, (0, {}))
        if size != len(tokenizer):  # new, or changed since
            size, pieces = len(tokenizer), {}
            self._known[tokenizer] = (size, pieces)
        self.pieces = pieces
        self.leading = _tokenize(tokenizer, "x")[1].count(0)

    def of_text(self, text: str) -> int:
        """Tokens of ``text`` after a full stop."""
        alone, together = self._lengths([".", "." + text])
        return together - alone

    def of_unit(self, unit: str) -> int:
        """Tokens of a sentence and the white space before it, after a full stop."""
        pieces = _PIECE.findall("." + unit if unit[0] == "\n" else unit)
        missing = [piece for piece in {*pieces, "."} if piece not in self.pieces]
        if missing:
            # The anchor keeps a piece from being the start of a text, which costs differently.
            texts = [("x" if piece[0] == "." else ".") + piece for piece in missing]
            word, stop, *lengths = self._lengths(["x", ".", *texts])
            for piece, text, length in zip(missing, texts, lengths, strict=True):
                self.pieces[piece] = length - (word if text[0] == "x" else stop)
        total = sum(map(self.pieces.__getitem__, pieces))
        return total - self.pieces["."] if unit[0] == "\n" else total

    def _lengths(self, texts: list[str]) -> list[int]:
        encoding = self.tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        return [len(ids) for ids in encoding["input_ids"]]


def _tokenize(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    """Offset of the first character of every token, and of the one after its last."""
    encoding = tokenizer(
        text, return_offsets_mapping=True, return_attention_mask=False, verbose=False
    )
    offsets: list[tuple[int, int]] = encoding["offset_mapping"]
    starts = [start for start, _ in offsets]
    ends = [end for _, end in offsets]
    for place in range(len(offsets) - 1, 0, -1):  # a closing special token reports (0, 0)
        if ends[place]:
            break
        starts[place] = ends[place] = len(text)
    return starts, ends


class _Writer:
    """Writes sentences of one language and split, drawing every word before repeating any.

    Where the split has a grammar, each writer also draws a style: how much it writes by the
    grammar, which half of the grammar's options it knows, and how odd its words are.
    """

    def __init__(self, language: Language, split: Split, rng: random.Random) -> None:
        data = _data(language)
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
        return _SYMBOL.sub(lambda symbol: self.expand(self.pick(rules[symbol[1]]), rules), text)

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
                return self._coin()
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

    def _coin(self) -> str:
        """A word that no list holds, and no other split."""
        parts = _data(self.language)["coined"]
        reserved = _reserved(self.language)
        while True:
            word = "".join(
                self.pick(parts[part].split())
                for _ in range(1 + int(self.random() * 2))
                for part in ("start", "middle", "end")
            )
            if word not in reserved:
                return word


def plural(noun: str, irregular: Mapping[str, str]) -> str:
    """The English plural of ``noun``."""
    if noun in irregular:
        return irregular[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")


def with_particle(word: str, particle: str) -> str:
    """A Korean word with the form of ``particle`` that its last sound asks for.

    Args:
        word: A word that ends in a Hangul syllable or a digit.
        particle: The form after a consonant: ``은``, ``이``, ``을``, ``과``, ``으로``, ``이며``,
            ``이었``, ``이라고`` or ``이라는``; anything else is appended unchanged.
    """
    last = word[-1]
    final = _DIGIT_FINALS[int(last)] if last.isdigit() else (ord(last) - 0xAC00) % 28
    if particle == "으로":
        return word + ("로" if final in (0, _RIEUL) else "으로")
    closed, opened = _PARTICLES.get(particle, (particle, particle))
    return word + (closed if final else opened)


def low_discrepancy_depth(seed: int, index: int) -> float:
    """Depth of sample ``index``, in [0, 1): steps of the golden ratio from a start set by seed."""
    return (_fraction(f"niah/depth/{seed}") + index * _GOLDEN) % 1.0


def key_split(key: int | str) -> Split:
    """The split that a five-digit key belongs to: about one in five is a test key."""
    fraction = _fraction(f"niah/key/{key}")
    if fraction < _TEST_SHARE:
        return "test"
    return "validation" if fraction < _TEST_SHARE + _VALIDATION_SHARE else "train"


def word_split(word: str) -> Literal["train", "test"]:
    """The split of a word of the common lists, about half each; validation has lists of its own."""
    return "test" if _fraction(f"niah/word/{word}") < _TEST_WORDS else "train"


def name_split(name: str) -> Split:
    """The split that an invented name belongs to: half of them test, one in twenty validation."""
    fraction = _fraction(f"niah/word/{name}")
    if fraction < _TEST_WORDS:
        return "test"
    return "validation" if fraction < _VALIDATION_NAMES else "train"


@lru_cache
def keys(split: str) -> tuple[str, ...]:
    """All keys of a split, in a fixed random-looking order."""
    part = _split(split)
    chosen = (str(key) for key in range(FIRST_KEY, LAST_KEY + 1) if key_split(key) == part)
    return tuple(sorted(chosen, key=_number))


def vocabulary(language: str, split: str) -> frozenset[str]:
    """Every listed content word that a haystack of this split may use, plural forms included.

    Training haystacks also hold coined words; none of these is in another split's vocabulary.
    """
    lang, part = _language(language), _split(split)
    data = _data(lang)
    found: set[str] = set()
    for kind, words in _words(lang, part).items():
        found.update(words)
        if kind in data.get("countable", "").split():
            found.update(plural(word, data["irregular"]) for word in words)
    return frozenset(found)


@lru_cache
def names(language: str, split: str) -> tuple[str, ...]:
    """Every invented proper name that a haystack of this split may use."""
    lists = [part.split() for part in _data(_language(language))["names"].values()]
    found = [""]
    for syllables in lists:
        found = [head + tail for head in found for tail in syllables]
    part = _split(split)
    words = frozenset().union(*(vocabulary(language, each) for each in get_args(Split)))
    chosen = (name for name in dict.fromkeys(found) if name_split(name) == part)
    return tuple(name for name in chosen if name not in words and name.lower() not in words)


def needle_templates(language: str, split: str) -> tuple[str, ...]:
    """Wordings of the needle; ``{key}`` or ``{key:particle}`` marks the key."""
    return tuple(_data(_language(language))["needles"][_split(split)])


def needle_grammar(language: str, split: str) -> Mapping[str, Sequence[str]]:
    """Rules that write needles beside the fixed wordings: symbol -> its expansions.

    ``<symbol>`` is expanded, a slot such as ``[trade]`` filled as in any sentence. Training has one
    in English, so that a model learns what a pass key is rather than a list of sentences; the other
    splits have fixed wordings alone, and no rule derives any of these.
    """
    return _grammar(language, split, "needle_grammar")


def sentence_grammar(language: str, split: str) -> Mapping[str, Sequence[str]]:
    """Rules that write haystack sentences beside the listed templates: symbol -> its expansions.

    As :func:`needle_grammar`, from ``<sentence>`` or ``<short>``: training has one in English, and
    it derives no sentence template of another split.
    """
    return _grammar(language, split, "sentence_grammar")


def _grammar(language: str, split: str, which: str) -> Mapping[str, Sequence[str]]:
    rules: Mapping[str, Sequence[str]] = (
        _data(_language(language)).get(which, {}).get(_split(split), {})
    )
    return rules


def _needle(language: Language, split: Split, name: str, key: str) -> str:
    """The sentence that states ``key`` in the sample called ``name``."""
    rules = needle_grammar(language, split)
    rng = random.Random(_number(f"{name}/needle"))
    kind = rng.random() if rules else 0.0
    if kind < _FIXED_SHARE:
        return fill_needle(_pick(needle_templates(language, split), name), key)
    writer = _Writer(language, split, rng)
    if kind < _FIXED_SHARE + _GRAMMAR_SHARE:
        text = writer.expand("<needle>", rules)
    else:
        text = _transplanted(language, writer)
    return fill_needle(writer.fill(parse_template(text)), key)


def _transplanted(language: Language, writer: _Writer) -> str:
    """A training sentence in which the key took a number's place and "pass key" a noun's.

    What it says is nonsense, and that is its use: key and words stand in any order, near or far,
    among any other words, so that only being a pass key's number tells the number.
    """

    def sentence(*slots: re.Pattern[str]) -> str:
        while True:
            if writer.random() < 0.5:
                text = str(writer.pick(sentence_templates(language, "train")))
            else:
                text = writer.expand("<sentence>", sentence_grammar(language, "train"))
            if all(slot.search(text) for slot in slots):
                return text.rstrip(".?!")

    def replaced(text: str, slots: re.Pattern[str], new: str) -> str:
        slot = writer.pick(list(slots.finditer(text)))
        article = "a " if slot[0].startswith("[a ") else ""
        return text[: slot.start()] + article + new + text[slot.end() :]

    if writer.random() < 0.5:
        text = replaced(sentence(_NUMBER_SLOT, _NOUN_SLOT), _NUMBER_SLOT, "{key}")
        return replaced(text, _NOUN_SLOT, "pass key")
    clauses = [
        replaced(sentence(_NOUN_SLOT), _NOUN_SLOT, "pass key"),
        replaced(sentence(_NUMBER_SLOT), _NUMBER_SLOT, "{key}"),
    ]
    if writer.random() < 0.5:
        clauses.reverse()
    return str(writer.pick(_JOINTS)).join(clauses)


def fill_needle(template: str, key: str) -> str:
    """The needle: ``template`` with the key and, in Korean, the particle its sound asks for."""
    return _KEY.sub(lambda slot: with_particle(key, slot[1] or ""), template)


def sentence_templates(language: str, split: str) -> tuple[str, ...]:
    """Listed sentence templates of the haystack, the short ones last."""
    data, part = _data(_language(language)), _split(split)
    return (*data["sentences"][part], *data["short"][part])


def function_words(language: str) -> frozenset[str]:
    """The closed list of words that templates of both splits may use beside their slots."""
    return frozenset(_data(_language(language))["function_words"].split())


def score(answer: str, output: str) -> dict[str, float]:
    """Scores one generated text against the key.

    Args:
        answer: The key's digits.
        output: The generated text, already cut at the task's stop strings.

    Returns:
        ``exact_match`` (1 if the text without surrounding white space is the key and nothing
        else), ``contains`` (1 if the key occurs in it) and ``digit_accuracy`` (fraction of the
        key's digits that stand at their place in the text without surrounding white space).
    """
    text = output.strip()
    right = sum(a == b for a, b in zip(answer, text, strict=False))
    return {
        "exact_match": float(text == answer),
        "contains": float(answer in output),
        "digit_accuracy": right / len(answer),
    }


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's hook: the metrics of one generated text, as :func:`score` gives them."""
    return score(str(doc["answer"]), str(results[0]))


def load(**kwargs: Any) -> dict[str, "datasets.Dataset"]:
    """lm-eval's hook: builds the test samples in the evaluated model's own tokens.

    Args:
        **kwargs: The task's YAML metadata and the model's arguments. Used are ``task`` or
            ``language``, ``context_tokens``, ``num_samples``, ``seed``, ``split``; for the
            tokenizer ``tokenizer`` (a name, a folder or an object) or ``pretrained``, with
            ``gguf_file``, ``revision``, ``subfolder``, ``trust_remote_code``, ``add_bos_token``;
            and ``cache_folder``, where samples are kept for other processes of the same run.
            Others are ignored.

    Returns:
        ``{"test": dataset}`` with one column for each field of :class:`Sample`, and
        ``prompt_sha256``, the hexadecimal SHA-256 of the prompt's UTF-8 bytes.

    Raises:
        ValueError: No tokenizer is named, or an argument is out of range.
    """
    from datasets import Dataset

    task = str(kwargs.get("task", "niah_passkey"))
    language = kwargs.get("language") or _choice("task", task, TASKS)
    num_samples = int(kwargs.get("num_samples", 200))
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}; at least 1 is needed")
    context_tokens, seed = int(kwargs.get("context_tokens", 4925)), int(kwargs.get("seed", 0))
    kept = None
    if kwargs.get("cache_folder"):
        split = kwargs.get("split", "test")
        file = f"{task}-{language}-{split}-{context_tokens}-{num_samples}-seed{seed}.json"
        kept = Path(str(kwargs["cache_folder"])) / file
        if kept.is_file():
            return {"test": Dataset.from_list(json.loads(kept.read_text(encoding="utf-8")))}
    tokenizer = _tokenizer(kwargs)
    rows: list[dict[str, Any]] = []
    for index in range(num_samples):
        sample = build_sample(
            tokenizer,
            language=str(language),
            split=str(kwargs.get("split", "test")),
            context_tokens=context_tokens,
            index=index,
            seed=seed,
        )
        digest = hashlib.sha256(sample.prompt.encode()).hexdigest()
        rows.append({**asdict(sample), "prompt_sha256": digest})
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial")
        partial.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        partial.replace(kept)
    return {"test": Dataset.from_list(rows)}


def _tokenizer(kwargs: Mapping[str, Any]) -> Any:
    from transformers import AutoTokenizer

    source = kwargs.get("tokenizer") or kwargs.get("pretrained")
    if source is None:
        raise ValueError(
            "the samples are built in the evaluated model's own tokens, and no model is named; "
            "pass pretrained=NAME or tokenizer=NAME in --model_args, or in the metadata of the "
            "TaskManager"
        )
    if callable(source) and hasattr(source, "is_fast"):
        return source
    if not isinstance(source, str | Path):
        source = source.config.name_or_path  # a model object
    passed = ("gguf_file", "revision", "subfolder", "trust_remote_code", "add_bos_token")
    options = {name: kwargs[name] for name in passed if kwargs.get(name) is not None}
    return AutoTokenizer.from_pretrained(source, **options)


def _language(language: str) -> Language:
    _choice("language", language, get_args(Language))
    return "ko" if language == "ko" else "en"


def _split(split: str) -> Split:
    _choice("split", split, get_args(Split))
    return cast("Split", split)


def _choice(what: str, value: str, allowed: Sequence[str] | Mapping[str, str]) -> str:
    if value not in allowed:
        raise ValueError(f"{what} is {value!r}; it must be one of {', '.join(allowed)}")
    return allowed[value] if isinstance(allowed, Mapping) else value


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _fraction(text: str) -> float:
    return (_number(text) >> 11) / 2**53


def _pick(options: Sequence[str], name: str) -> str:
    return options[_number(f"niah/needle/{name}") % len(options)]


def _key(split: Split, seed: int, index: int) -> str:
    """The key of a sample; no key comes twice within a seed before all of its split were used."""
    pool = keys(split)
    return pool[(_number(f"niah/keys/{split}/{seed}") + index) % len(pool)]


@lru_cache
def _data(language: Language) -> dict[str, Any]:
    path = Path(__file__).with_name(f"words_{language}.json")
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


@lru_cache
def _words(language: Language, split: Split) -> dict[str, tuple[str, ...]]:
    if split == "validation":
        own = _data(language)["validation_words"]
        return {kind: tuple(dict.fromkeys(words.split())) for kind, words in own.items()}
    return {
        kind: tuple(word for word in dict.fromkeys(words.split()) if word_split(word) == split)
        for kind, words in _data(language)["words"].items()
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
    return tuple(parse_template(template) for template in _data(language)[group][split])


__all__ = ["CHANCE_FLOOR", "QUESTIONS", "TASKS", "Sample", "build_sample", "load", "score"]
