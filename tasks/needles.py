"""Needles: the values that are hidden, and the sentences that state them, of each split."""

import itertools
import json
import random
import re
import string
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from . import haystack, inflection

FIRST_KEY, LAST_KEY = 10_000, 99_999
NUM_KEYS = LAST_KEY - FIRST_KEY + 1

_TEST_SHARE, _VALIDATION_SHARE = 0.2, 0.05
_NUMBER_SLOT = re.compile(r"\[(?:num|year|count|rank|clock|decimal|thousand)\]")
_NOUN_SLOT = re.compile(
    r"\[(?:a )?(?:object|tool|place|container|garment|vehicle|plant|material)\]"
)
_JOINTS = ("; ", ", and ", " while ", ", for ", ": ", ", so ", " because ", ", yet ", ", where ")
_FIXED_SHARE, _GRAMMAR_SHARE = 0.2, 0.3
_KEY = re.compile(r"\{key(?::([^}]+))?\}")


def key_split(key: int | str) -> haystack.Split:
    """The split that a five-digit key belongs to: about one in five is a test key."""
    fraction = haystack.fraction_of(f"niah/key/{key}")
    if fraction < _TEST_SHARE:
        return "test"
    return "validation" if fraction < _TEST_SHARE + _VALIDATION_SHARE else "train"


@lru_cache
def keys(split: str) -> tuple[str, ...]:
    """All keys of a split, in a fixed random-looking order."""
    part = haystack.require_split(split)
    chosen = (str(key) for key in range(FIRST_KEY, LAST_KEY + 1) if key_split(key) == part)
    return tuple(sorted(chosen, key=haystack.number_of))


def needle_templates(language: str, split: str) -> tuple[str, ...]:
    """Wordings of the needle; ``{key}`` or ``{key:particle}`` marks the key."""
    data = haystack.data_of(haystack.require_language(language))
    return tuple(data["needles"][haystack.require_split(split)])


def needle_grammar(language: str, split: str) -> Mapping[str, Sequence[str]]:
    """Rules that write needles beside the fixed wordings: symbol -> its expansions.

    ``<symbol>`` is expanded, a slot such as ``[trade]`` filled as in any sentence. Training has one
    in English, so that a model learns what a pass key is rather than a list of sentences; the other
    splits have fixed wordings alone, and no rule derives any of these.
    """
    return haystack.grammar(language, split, "needle_grammar")


def passkey_needle(
    language: haystack.Language,
    split: haystack.Split,
    name: str,
    key: str,
    *,
    plainest: bool = False,
) -> str:
    """The sentence that states ``key`` in the sample called ``name``; or the shortest there is."""
    if plainest:
        return fill_needle(min(needle_templates(language, split), key=len), key)
    rules = needle_grammar(language, split)
    rng = random.Random(haystack.number_of(f"{name}/needle"))
    kind = rng.random() if rules else 0.0
    if kind < _FIXED_SHARE:
        return fill_needle(_pick(needle_templates(language, split), name), key)
    writer = haystack.Writer(language, split, rng)
    if kind < _FIXED_SHARE + _GRAMMAR_SHARE:
        text = writer.expand("<needle>", rules)
    else:
        text = _transplanted(language, writer)
    return fill_needle(writer.fill(haystack.parse_template(text)), key)


def _transplanted(language: haystack.Language, writer: haystack.Writer) -> str:
    """A training sentence in which the key took a number's place and "pass key" a noun's.

    What it says is nonsense, and that is its use: key and words stand in any order, near or far,
    among any other words, so that only being a pass key's number tells the number.
    """

    def sentence(*slots: re.Pattern[str]) -> str:
        while True:
            if writer.random() < 0.5:
                text = str(writer.pick(haystack.sentence_templates(language, "train")))
            else:
                text = writer.expand("<sentence>", haystack.sentence_grammar(language, "train"))
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
    return _KEY.sub(lambda slot: inflection.with_particle(key, slot[1] or ""), template)


def _pick(options: Sequence[str], name: str) -> str:
    return options[haystack.number_of(f"niah/needle/{name}") % len(options)]


def passkey(split: haystack.Split, seed: int, index: int) -> str:
    """The key of a sample; no key comes twice within a seed before all of its split were used."""
    pool = keys(split)
    return pool[(haystack.number_of(f"niah/keys/{split}/{seed}") + index) % len(pool)]


def value(split: haystack.Split, name: str, *, digits: int, alphabet: str = string.digits) -> str:
    """A value of this split for the sample or needle called ``name``; none begins with 0.

    Values of any length are split as keys are (:func:`key_split`): the splits share none.
    """
    for attempt in itertools.count():
        rng = random.Random(haystack.number_of(f"{name}/value/{attempt}"))
        drawn = "".join(alphabet[int(rng.random() * len(alphabet))] for _ in range(digits))
        if drawn[0] != "0" and key_split(drawn) == split:
            return drawn
    raise AssertionError("unreachable")


def labels(split: str) -> tuple[str, ...]:
    """Names that values can be labelled with; the splits share none."""
    found: str = haystack.data_of("en")["labels"][haystack.require_split(split)]
    return tuple(found.split())


def templates(group: str, split: str) -> tuple[str, ...]:
    """English wordings of a group; ``{key}`` marks the value, ``{label}`` the label.

    Args:
        group: ``labelled_needles`` (a value for one of several labels), ``update_needles`` (a value
            that replaces an earlier one) or ``errand_needles`` (a label, and no value).
        split: ``train``, ``validation`` or ``test``.
    """
    return tuple(haystack.data_of("en")[group][haystack.require_split(split)])


@lru_cache
def wordings(split: str) -> tuple[tuple[str, str], ...]:
    """Needles and their questions which share no content word, nor one with a training wording.

    The needle names what the question is about by other words, after Modarressi et al., 2025,
    NoLiMa, arXiv 2502.05167.
    """
    path = Path(__file__).with_name("wordings_en.json")
    pairs = json.loads(path.read_text(encoding="utf-8"))[haystack.require_split(split)]
    return tuple((needle, question) for needle, question in pairs)
