"""What `family.py` learns from: a tokenizer of its own; rows of repeats, pairs and documents."""

from __future__ import annotations

import random
import re
import string
from typing import Any

from gistbench import generators
from gistbench.models.prompts import answer_ids, split_prompt
from gistbench.training.examples import IGNORED

TASKS = ("niah_passkey", "niah_labelled_2")
VOCABULARY = 2048
TOKENIZER_DOCUMENTS, DOCUMENT_BYTES = 400, 1500

PASSKEY = 0.25
"""Share of documents with one unlabelled key."""

INVENTED = 0.8
"""Share of labelled documents whose labels are replaced."""

REWORDED = 0.6
"""Share of statements of a label's number whose wording is drawn: there are twelve of them, and a
model that has seen no others picks badly from those of another split."""

DOCUMENTS, VALIDATION = 2500, 200
"""Contexts of each task, for training and of the validation split."""

Document = tuple[str, list[tuple[str, str]]]
"""A context, and questions with their answers."""

Row = tuple[list[int], list[int], str]
"""Ids, the same where they are learned and else `IGNORED`, and the kind of question."""


def train_tokenizer(seed: int) -> Any:
    """Byte-level BPE on documents of the training split; digits stay single.

    A number's first takes the space before it: it follows its label at once, as copying needs it.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # Documents are made to a length in tokens: for the first ones a token is a byte.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    by_bytes = Tokenizer(
        models.BPE(vocab={byte: row for row, byte in enumerate(alphabet)}, merges=[])
    )
    by_bytes.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(" ?[0-9]"), "isolated"), pre_tokenizers.ByteLevel(False)]
    )
    by_bytes.decoder = decoders.ByteLevel()
    first = PreTrainedTokenizerFast(
        tokenizer_object=by_bytes, eos_token="<|end|>", pad_token="<|end|>"
    )
    texts = []
    for task in TASKS:
        for context, turns in documents(
            first, task, "train", TOKENIZER_DOCUMENTS, tokens=DOCUMENT_BYTES, seed=seed
        ):
            texts += [context, *(f"{question} {answer}" for question, answer in turns)]
    return first.train_new_from_iterator(texts, VOCABULARY, show_progress=False)


def documents(
    tokenizer: Any, task: str, split: str, count: int, *, tokens: int, seed: int
) -> list[Document]:
    """The first samples of a task, less those that are too long."""
    generator, made = generators.generator(task), []
    for index in range(count):
        try:
            context, turns = generator.build_turns(
                tokenizer, task=task, split=split, context_tokens=tokens, index=index, seed=seed
            )
        except generator.DoesNotFitError:
            continue
        made.append((context, [(turn.question, turn.answer) for turn in turns]))
    return made


class Rows:
    """Rows to learn from, without end."""

    def __init__(self, tokenizer: Any, context_tokens: int, seed: int) -> None:
        self.tokenizer, self.rng = tokenizer, random.Random(seed)
        self.validation: list[Row] = []
        self.documents: list[list[Document]] = []
        for task in TASKS:
            lengths = {"tokens": context_tokens, "seed": seed}
            self.documents.append(documents(tokenizer, task, "train", DOCUMENTS, **lengths))
            for context, turns in documents(tokenizer, task, "validation", VALIDATION, **lengths):
                self.validation += [self._row(context, *turn) for turn in turns]
        vocabulary, letters = tokenizer.get_vocab(), string.ascii_letters
        self.pieces = sorted(piece for piece in vocabulary if set(piece) <= set(letters))
        self.plain = sorted(p[1:] for p in vocabulary if re.fullmatch("Ġ[a-z]{2,}", p))
        self.words = [row for piece, row in vocabulary.items() if piece[-1] in letters]
        self.digits = [row for piece, row in vocabulary.items() if piece[-1].isdecimal()]
        self.sentences = sorted(
            {
                sentence.replace(label, "{label}").replace(key, "{key}")
                for context, turns in self.documents[1]
                for label, key, sentence in statements(context, turns)
            }
        )

    def batch(self, count: int, shares: tuple[float, float, float]) -> list[Row]:
        """Rows drawn anew: repeats, pairs and documents by their shares."""
        draws = (self._repeats, self._pairs, self._of_document)
        return [draw() for draw in self.rng.choices(draws, shares, k=count)]

    def _row(self, context: str, question: str, answer: str) -> Row:
        prompt = split_prompt(self.tokenizer, context, question)
        learned = answer_ids(self.tokenizer, question, answer)
        before = [*prompt.context, *prompt.question]
        kind = "list" if "," in answer else "by label" if " for " in question else "passkey"
        return [*before, *learned], [IGNORED] * len(before) + learned, kind

    def _label(self) -> str:
        return "".join(self.rng.choices(self.pieces, k=self.rng.randint(1, 3))).capitalize()

    def _number(self) -> str:
        return str(self.rng.randrange(10_000, 100_000))

    def _sentence(self) -> str:
        """A statement of {label} and {key}, most often in drawn words."""
        rng = self.rng
        if rng.random() >= REWORDED:
            return rng.choice(self.sentences)
        between = rng.choices(self.plain, k=rng.randint(0, 3))
        if rng.random() < 0.8:
            between[rng.randint(0, len(between)) : 0] = ["the", "pass", "key"]
        sides = ["{label}", "{key}"][:: 1 if rng.random() < 0.7 else -1]
        before, after = (rng.choices(self.plain, k=rng.randint(0, 4)) for _ in sides)
        text = " ".join([*before, sides[0], *between, sides[1], *after])
        return f"{text[0].upper()}{text[1:]}."

    def _of_document(self) -> Row:
        """A question of a training document, with other numbers and often other labels."""
        context, turns = self.rng.choice(self.documents[self.rng.random() >= PASSKEY])
        question, answer = self.rng.choice(turns)
        pairs = pairs_of(turns)
        for label, key, sentence in statements(context, turns):
            context = context.replace(sentence, self._sentence().format(label=label, key=key))
        new = {key: self._number() for _, key in pairs}
        if self.rng.random() < INVENTED:
            new |= {label: self._label() for label, _ in pairs if label}
        old = re.compile("|".join(map(re.escape, new)))
        return self._row(
            *(old.sub(lambda match: new[match[0]], text) for text in (context, question, answer))
        )

    def _repeats(self) -> Row:
        """Drawn tokens, and after a few others the same again."""
        rng = self.rng
        ids = rng.choices(self.words + self.digits * 10, k=rng.randint(5, 16))
        before = ids + rng.choices(self.words, k=rng.randint(0, 6))
        return before + ids, [IGNORED] * (len(before) + 1) + ids[1:], "repeats"

    def _pairs(self) -> Row:
        """Two or three labels with a number each, and questions, some of them again.

        Were each asked once, those asked before would tell what is left.
        """
        rng = self.rng
        pairs = [(self._label(), self._number()) for _ in range(rng.choice((2, 2, 3)))]
        near = rng.random() < 0.4
        cue = " {label}" if near else " The pass key for {label} is the number"
        text = " ".join(
            ("{label} {key}," if near else self._sentence()).format(label=label, key=key)
            for label, key in pairs
        )
        ids = self.tokenizer(text)["input_ids"]
        labels = [IGNORED] * len(ids)
        for label, key in rng.choices(pairs, k=3):
            asked, learned = self.tokenizer([cue.format(label=label), f" {key}\n"])["input_ids"]
            ids = ids + asked + learned
            labels += [IGNORED] * len(asked) + learned
        return ids, labels, "pairs"


def pairs_of(turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Labels, empty where there are none, and numbers of a document."""
    longest = max((answer for _, answer in turns), key=len)
    return [pair.rpartition(" ")[::2] for pair in longest.split(", ")]


def statements(context: str, turns: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Labels, numbers and the sentences that state them."""
    sentences = re.split(r"(?<=[.?!]) ", context)
    return [
        (label, key, sentence)
        for label, key in pairs_of(turns)
        for sentence in sentences
        if label and label in sentence and key in sentence
    ]
