"""Needles: the values that are hidden, and the sentences that state them, of each split."""

import itertools
import json
import random
import re
import string
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

from . import haystack, inflection

FIRST_KEY, LAST_KEY = 10_000, 99_999
NUM_KEYS = LAST_KEY - FIRST_KEY + 1

_TEST_SHARE, _VALIDATION_SHARE = 0.2, 0.05
_NUMBER_SLOT = re.compile(r"\[(?:num|year|count|rank|clock|decimal|thousand)\]")
_NOUN_SLOT = re.compile(
    r"\[(?:a )?(?:object|tool|place|container|garment|vehicle|plant|material)\]"
)
_JOINTS = ("; ", ", and ", " while ", ", for ", ": ", ", so ", " because ", ", yet ", ", where ")
_NAME_SLOT = re.compile(r"\[name\]")
_FIXED_SHARE, _GRAMMAR_SHARE = 0.2, 0.3
_LABEL_SHARES = {"listed": 0.25, "name": 0.35, "coined": 0.25, "common": 0.15}
_PREFIX_SHARE = 0.1
_PREFIXES = ("New", "Old", "Upper", "Lower", "Port", "Fort", "Mount", "Lake", "Saint", "East")
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

    ``<symbol>`` is expanded, a slot such as ``[trade]`` filled as in any sentence: from
    ``<needle>`` a pass key, and in English from ``<labelled>`` that of a label, from ``<errand>``
    a courier's way. Training has one, so that a model learns what a pass key is rather than a list
    of sentences; the other splits have fixed wordings alone, and no rule derives any of these.
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
    if kind < _FIXED_SHARE + _GRAMMAR_SHARE or language != "en":
        text = writer.expand("<needle>", rules)
    else:
        text = _transplanted(writer)
    return fill_needle(writer.fill(haystack.parse_template(text)), key)


def labelled_needle(
    split: haystack.Split, name: str, label: str, key: str, *, plain: bool = False
) -> str:
    """The English sentence that states ``key`` for ``label``; plain: in a fixed wording."""
    return _sentence(_wording(split, name, "labelled", plain=plain).format(label=label, key=key))


def errand_needle(split: haystack.Split, name: str, label: str, *, plain: bool = False) -> str:
    """The English sentence that sends the courier to ``label``; plain: in a fixed wording."""
    return _sentence(_wording(split, name, "errand", plain=plain).format(label=label))


def _sentence(text: str) -> str:
    text = text.replace("the the ", "the ").replace("The the ", "The ")
    return text[0].upper() + text[1:]


def _wording(
    split: haystack.Split, name: str, kind: Literal["labelled", "errand"], *, plain: bool
) -> str:
    fixed = templates(f"{kind}_needles", split)
    rules = needle_grammar("en", split)
    rng = random.Random(haystack.number_of(f"{name}/{kind}"))
    share = rng.random() if rules and not plain else 0.0
    if share < _FIXED_SHARE:
        return fixed[haystack.number_of(name) % len(fixed)]
    writer = haystack.Writer("en", split, rng)
    if share < _FIXED_SHARE + _GRAMMAR_SHARE or kind == "errand":
        text = writer.expand(f"<{kind}>", rules)
    else:
        text = _transplanted(writer, labelled=True)
    return writer.fill(haystack.parse_template(text))


def _transplanted(writer: haystack.Writer, *, labelled: bool = False) -> str:
    """A training sentence in which the key took a number's place and "pass key" a noun's.

    What it says is nonsense, and that is its use: key and words stand in any order, near or far,
    among any other words, so that only being a pass key's number tells the number. A label takes a
    name's place.
    """

    def sentence(*slots: re.Pattern[str]) -> str:
        while True:
            if writer.random() < 0.5:
                text = str(writer.pick(haystack.sentence_templates("en", "train")))
            else:
                text = writer.expand("<sentence>", haystack.sentence_grammar("en", "train"))
            if all(slot.search(text) for slot in slots):
                return text.rstrip(".?!")

    def replaced(text: str, slots: re.Pattern[str], new: str) -> str:
        slot = writer.pick(list(slots.finditer(text)))
        article = "a " if slot[0].startswith("[a ") else ""
        return text[: slot.start()] + article + new + text[slot.end() :]

    if writer.random() < 0.5:
        named = (_NAME_SLOT,) if labelled else ()
        text = replaced(sentence(_NUMBER_SLOT, _NOUN_SLOT, *named), _NUMBER_SLOT, "{key}")
        text = replaced(text, _NOUN_SLOT, "pass key")
        return replaced(text, _NAME_SLOT, "{label}") if labelled else text
    at = int(writer.random() * 2) if labelled else -1  # the clause that holds the label
    clauses = []
    for place, (slots, new) in enumerate(((_NOUN_SLOT, "pass key"), (_NUMBER_SLOT, "{key}"))):
        text = sentence(slots, *((_NAME_SLOT,) if place == at else ()))
        text = replaced(text, _NAME_SLOT, "{label}") if place == at else text
        clauses.append(replaced(text, slots, new))
    if writer.random() < 0.5:
        clauses.reverse()
    return str(writer.pick(_JOINTS)).join(clauses)


def stray_needle(split: haystack.Split, name: str, key: str) -> str:
    """An ordinary sentence of the haystack in which ``key`` took a number's place."""
    rng = random.Random(haystack.number_of(f"{name}/stray"))
    writer = haystack.Writer("en", split, rng)
    rules = haystack.sentence_grammar("en", split)
    listed = [
        text for text in haystack.sentence_templates("en", split) if _NUMBER_SLOT.search(text)
    ]
    text = ""
    while not _NUMBER_SLOT.search(text):
        by_rule = rules and writer.random() >= 0.5
        text = writer.expand("<sentence>", rules) if by_rule else str(writer.pick(listed))
    slot = writer.pick(list(_NUMBER_SLOT.finditer(text)))
    text = text[: slot.start()] + "{key}" + text[slot.end() :]
    return fill_needle(writer.fill(haystack.parse_template(text)), key)


def stray_question(split: haystack.Split, name: str, needle: str) -> str:
    """What is asked of :func:`stray_needle`; in training in many wordings, some with its words."""
    fixed, *others = haystack.data_of("en")["stray_questions"][haystack.require_split(split)]
    content = set(re.findall(r"\b[a-z]{4,}", needle)) - haystack.function_words("en")
    words = sorted(content) or ["number"]
    rng = random.Random(haystack.number_of(f"{name}/stray question"))
    if not others or rng.random() < _FIXED_SHARE:
        return str(fixed)
    asking, word, other = (rng.choice(options) for options in (others, words, words))
    return str(asking).format(word=word, other=other)


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


def drawn_labels(
    split: haystack.Split, count: int, name: str, *, common: bool = True, plain: bool = False
) -> list[str]:
    """Different labels of a split, drawn for the sample called ``name``.

    In training most are on no list: invented and coined names, some of two words, and with
    ``common`` also a common noun ("the baker"), since a model that knows all labels by heart need
    not read them. Plain labels are listed ones.
    """
    listed = labels(split)
    if split != "train" or plain:
        return sorted(listed, key=lambda one: haystack.number_of(f"{name}/{one}"))[:count]
    rng = random.Random(haystack.number_of(name))
    writer = haystack.Writer("en", split, rng)
    draws: dict[str, Callable[[], str]] = {
        "listed": lambda: str(writer.pick(listed)),
        "name": lambda: _prefixed(writer, str(writer.draw("name"))),
        "coined": lambda: _prefixed(writer, writer.coin()),
        "common": lambda: f"the {writer.draw(writer.pick(('trade', 'place', 'kin')))}",
    }
    kinds = [kind for kind in draws if common or kind != "common"]
    shares = [_LABEL_SHARES[kind] for kind in kinds]
    found: list[str] = []
    while len(found) < count:
        label = draws[rng.choices(kinds, shares)[0]]()
        if label not in found and not set(label.split()) & _reserved_labels():
            found.append(label)
    return found


def _prefixed(writer: haystack.Writer, word: str) -> str:
    """A name out of ``word``, some of two words."""
    name = word[0].upper() + word[1:]
    return f"{writer.pick(_PREFIXES)} {name}" if writer.random() < _PREFIX_SHARE else name


def errand_label(split: haystack.Split, name: str) -> str:
    """Where the courier of the sample called ``name`` goes."""
    if split == "train":
        return drawn_labels(split, 1, f"{name}/errand", common=False)[0]
    listed = labels(split)
    return listed[haystack.number_of(f"{name}/errand") % len(listed)]


@lru_cache
def _reserved_labels() -> frozenset[str]:
    """Labels and names of the splits that are not trained on."""
    parts: tuple[haystack.Split, ...] = ("validation", "test")
    return frozenset(
        word for part in parts for word in (*labels(part), *haystack.names("en", part))
    )


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
