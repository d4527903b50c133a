"""What each task hides and asks, before any text is written."""

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from . import fitting, haystack, needles

Form = Literal[
    "single",
    "labelled",
    "all",
    "two",
    "absent",
    "update",
    "wordings",
    "stray",
    "topic",
    "frequency",
]
DOCUMENT_FORMS = ("topic", "frequency")
"""Those that ask about the document as a whole."""

NONE = "none"
"""The right answer where a document hides nothing."""

HEXADECIMAL = "0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Task:
    """What a task hides and asks.

    Attributes:
        language: Of its documents and question.
        form: ``single``: one value, one question. ``labelled``: a value for each of ``count``
            labels; the question names one of them. ``all``: ``count`` values, all asked for.
            ``two``: a value and an errand in one document, asked for by samples 2k and 2k + 1.
            ``absent``: as ``single``, but every second document hides nothing. ``update``: the
            value is stated twice, and the later statement counts. ``wordings``: needle and question
            share no word. ``stray``: the value is a number in a sentence like any other.
            ``topic``: what the document is mostly about, one of four themes.
            ``frequency``: which coded word occurs most often.
        count: Needles with values.
        digits: Digits of a value.
        alphabet: What digits are drawn from.
        prose: The haystack is the shipped prose, not invented sentences.
        trained: There is a training split.
        like: The task whose needles and questions this one has, sample by sample.
    """

    language: str = "en"
    form: Form = "single"
    count: int = 1
    digits: int = 5
    alphabet: str = string.digits
    prose: bool = False
    trained: bool = True
    like: str = ""

    @property
    def has_haystack(self) -> bool:
        """Whether the document's own sentences may be replaced by others."""
        return self.form not in DOCUMENT_FORMS


TASKS: Mapping[str, Task] = {
    "niah_passkey": Task(),
    "niah_passkey_ko": Task(language="ko"),
    "niah_passkey_prose": Task(prose=True, like="niah_passkey"),
    "niah_passkey_wordings": Task(form="wordings", trained=False),
    "niah_stray_number": Task(form="stray"),
    "niah_digits_10": Task(digits=10),
    "niah_digits_20": Task(digits=20),
    "niah_digits_40": Task(digits=40),
    "niah_uuid": Task(digits=32, alphabet=HEXADECIMAL),
    "niah_labelled_2": Task(form="labelled", count=2),
    "niah_labelled_4": Task(form="labelled", count=4),
    "niah_labelled_8": Task(form="labelled", count=8),
    "niah_all_values_4": Task(form="all", count=4),
    "niah_two_questions": Task(form="two"),
    "niah_absent": Task(form="absent"),
    "niah_update": Task(form="update", count=2),
    "document_topic": Task(form="topic"),
    "word_frequency": Task(form="frequency"),
}

QUESTIONS: Mapping[str, str] = {
    "en": " \n\nWhat is the pass key mentioned in the text above? The pass key is the number",
    "ko": " \n\n위 글에 나오는 패스키는 무엇입니까? 패스키는 숫자",
}
"""The plain question of each language. It opens with a space because ``".\\n\\n"`` is a single
token in several vocabularies (Llama 3, Qwen), while ``" "`` never joins the full stop before it.

It ends with "the number" so that a model tuned on neither task states digits: without that word a
small base model goes on in prose, and the full-context score would measure wording."""

_LABELLED_QUESTION = (
    " \n\nWhat is the pass key for {label} mentioned in the text above? "
    "The pass key for {label} is the number"
)
_LISTING_QUESTION = (
    " \n\nWhich pass keys are mentioned in the text above, and for whom? "
    "In the order of the text, the pass keys are:"
)
_ALL_QUESTION = (
    " \n\nWhat are all the pass keys mentioned in the text above? "
    "In the order of the text, the pass keys are the numbers"
)
_ERRAND_QUESTION = (
    " \n\nWhere does the courier mentioned in the text above go? The courier goes to the city of"
)
_ABSENT_QUESTION = (
    " \n\nWhat is the pass key mentioned in the text above? "
    "Answer none if the text mentions no pass key. The pass key is:"
)
_UPDATE_QUESTION = (
    " \n\nWhich pass key mentioned in the text above is valid in the end? "
    "The valid pass key is the number"
)

_PLAIN_WORDING, _PLAIN_LABEL = 2, 4  # attempts to fit a training sample, then shorter ones
_OTHER_DEPTH = 0.5  # of the second needle, after the first, going round


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, its answer, and the one needle that holds it, if one does."""

    question: str
    answer: str
    needle: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one sample hides and asks, before any text is written.

    ``asked`` is the needle that the answer is in; ``questions`` are all those that the document
    must have room for, the sample's own first; ``choices`` the answers that the question names.
    """

    needles: tuple[str, ...]
    depths: tuple[float, ...]
    questions: tuple[str, ...]
    answer: str
    entropy_bits: float
    asked: int | None = 0
    choices: tuple[str, ...] = ()
    also: tuple[Turn, ...] = ()


def plan_sample(
    task: str,
    kind: Task,
    split: haystack.Split,
    name: str,
    index: int,
    seed: int,
    first: float,
    redraw: int,
) -> Plan:
    """What the sample called ``name`` hides and asks."""
    lang = haystack.require_language(kind.language)
    bits = _entropy_bits(kind)
    depths = (first, *((first + place / kind.count) % 1.0 for place in range(1, kind.count)))
    if task.startswith("niah_passkey"):
        values: tuple[str, ...] = (needles.passkey(split, seed, index),)
    else:
        values = tuple(
            needles.value(split, f"{name}/{place}", digits=kind.digits, alphabet=kind.alphabet)
            for place in range(kind.count)
        )
    again = f"{name}/{redraw}" if redraw else name
    plainest = redraw == fitting.ATTEMPTS - 1
    plain_wording, plain_label = redraw >= _PLAIN_WORDING, redraw >= _PLAIN_LABEL

    def passkey_needle(place: int) -> str:
        own = again if kind.count == 1 else f"{again}/{place}"
        return needles.passkey_needle(lang, split, own, values[place], plainest=plainest)

    def chosen(options: Sequence[str], what: str) -> str:
        return options[haystack.number_of(f"{again}/{what}") % len(options)]

    question = QUESTIONS[lang]
    if kind.form == "labelled":
        labels = needles.drawn_labels(
            split,
            kind.count,
            f"{again if plain_label else name}/labels",
            plain=plain_label,
        )
        stated = tuple(
            needles.labelled_needle(
                split, f"{again}/needle/{place}", label, value, plain=plain_wording
            )
            for place, (label, value) in enumerate(zip(labels, values, strict=True))
        )
        asked = haystack.number_of(f"{name}/asked") % kind.count
        turns = [
            Turn(_LABELLED_QUESTION.format(label=label), value, needle)
            for label, value, needle in zip(labels, values, stated, strict=True)
        ]
        own = turns.pop(asked)
        in_order = sorted(range(kind.count), key=lambda place: depths[place])
        listing = ", ".join(f"{labels[place]} {values[place]}" for place in in_order)
        also = (Turn(_LISTING_QUESTION, listing), *turns)
        return Plan(stated, depths, (own.question,), own.answer, bits, asked, also=also)
    if kind.form == "all":
        stated = tuple(passkey_needle(place) for place in range(kind.count))
        in_order = sorted(range(kind.count), key=lambda place: depths[place])
        answer = ", ".join(values[place] for place in in_order)
        return Plan(stated, depths, (_ALL_QUESTION,), answer, bits, in_order[0])
    if kind.form == "two":
        label = needles.errand_label(split, again)
        stated = (
            passkey_needle(0),
            needles.errand_needle(split, f"{again}/needle/errand", label, plain=plain_wording),
        )
        depths = (first, (first + _OTHER_DEPTH) % 1.0)
        if index % 2:
            bits = math.log2(len(needles.labels(split)))
            key = Turn(question, values[0], stated[0])
            return Plan(stated, depths, (_ERRAND_QUESTION, question), label, bits, 1, also=(key,))
        city = Turn(_ERRAND_QUESTION, label, stated[1])
        return Plan(stated, depths, (question, _ERRAND_QUESTION), values[0], bits, 0, also=(city,))
    if kind.form == "absent":
        if index % 2:
            return Plan((), (), (_ABSENT_QUESTION,), NONE, 0.0, None)
        return Plan((passkey_needle(0),), depths, (_ABSENT_QUESTION,), values[0], bits)
    if kind.form == "update":
        update = chosen(needles.templates("update_needles", split), "needle/update")
        stated = (passkey_needle(0), update.format(key=values[1]))
        depths = (first * haystack.fraction_of(f"{name}/earlier"), first)
        return Plan(stated, depths, (_UPDATE_QUESTION,), values[1], bits, 1)
    if kind.form == "wordings":
        wording, asking = needles.wordings(split)[
            haystack.number_of(f"{name}/wording") % len(needles.wordings(split))
        ]
        stated = (needles.fill_needle(wording, values[0]),)
        return Plan(stated, depths, (f" \n\n{asking}",), values[0], bits)
    if kind.form == "stray":
        stray = needles.stray_needle(split, again, values[0])
        asking = needles.stray_question(split, again, stray)
        return Plan((stray,), depths, (f" \n\n{asking}",), values[0], bits)
    return Plan((passkey_needle(0),), depths, (question,), values[0], bits)


def _entropy_bits(kind: Task) -> float:
    values = kind.count if kind.form == "all" else 1
    size = len(kind.alphabet)
    return values * (math.log2(size - 1) + (kind.digits - 1) * math.log2(size))
