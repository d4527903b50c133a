"""Contexts of an exact length in tokens: which sentences to take, and where the needles go.

Stands alone; needs the standard library and the tokenizer that it is given.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

ATTEMPTS = 12
_SPARE = 14
_PIECE = re.compile(r"[^ ]*\n[^ ]+| ?[^ ]+")


class DoesNotFitError(ValueError):
    """The needles of a sample leave no room in so short a context; another sample's may."""


class Writes(Protocol):
    """What a draft is written with."""

    def running(self) -> Iterator[str]:
        """Sentences in the order of the text, each with the white space before it."""

    def sentence(self) -> str:
        """A sentence of ordinary length."""

    def short_sentence(self) -> str:
        """A sentence of a few words."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A context of exactly the length that was asked for.

    Attributes:
        context: The text.
        starts: Offset of each needle in ``context``, in characters.
        first_tokens: Index of each needle's first token.
        prompt_tokens: Tokens of the context with each question.
    """

    context: str
    starts: tuple[int, ...]
    first_tokens: tuple[int, ...]
    prompt_tokens: tuple[int, ...]


class Draft:
    """More sentences than needed, with an estimate of the tokens that each of them costs.

    Args:
        tokenizer: A fast Hugging Face tokenizer.
        writer: Writes the sentences.
        needles: Sentences to hide, all different; there may be none.
        context_tokens: Exact length to reach.

    Raises:
        ValueError: The writer has too little text.
    """

    def __init__(
        self, tokenizer: Any, writer: Writes, needles: Sequence[str], context_tokens: int
    ) -> None:
        self.tokenizer, self.needles = tokenizer, tuple(needles)
        costs = _Costs(tokenizer)
        needle_cost = sum(costs.of_text(" " + needle) for needle in needles)
        self.room = context_tokens - needle_cost - costs.leading
        self.target = context_tokens
        self.units: list[str] = []
        self.costs: list[int] = []
        total, running = 0, writer.running()
        while total < self.room:
            unit = next(running, None)
            if unit is None:
                raise ValueError(
                    f"the haystack's text has {total:,} tokens and a context of "
                    f"{context_tokens:,} needs {self.room:,} beside its needles; add text, or "
                    "ask for shorter contexts"
                )
            self.units.append(unit)
            self.costs.append(costs.of_unit(unit))
            total += self.costs[-1]
        self.num_running = len(self.units)
        for spare in range(2 * _SPARE):
            sentence = writer.sentence() if spare < _SPARE else writer.short_sentence()
            self.units.append(" " + sentence)
            self.costs.append(costs.of_unit(self.units[-1]))
        self.shortest = costs.leading + needle_cost + min(self.costs)

    def fit(self, depths: Sequence[float], questions: Sequence[str]) -> Fitted | None:
        """Chooses sentences, puts the needles among them and checks the length of the whole.

        Args:
            depths: Where each needle goes, 0 (first sentence) to 1 (last).
            questions: Each of them must leave the context its length.

        Returns:
            ``None`` if no choice fits exactly.
        """
        correction = 0
        for step in range(ATTEMPTS):
            chosen = self._choose(self.room + correction, step // 3)
            if chosen is None:
                continue
            context = self._join(chosen, depths)
            starts = tuple(context.index(needle) for needle in self.needles)
            seams = [self._seam(context, question, starts) for question in questions]
            if all(length == self.target and clean for length, clean, _, _ in seams):
                _, _, first_tokens, _ = seams[0]
                return Fitted(context, starts, first_tokens, tuple(seam[3] for seam in seams))
            correction += self.target - seams[0][0]
        return None

    def _join(self, chosen: Sequence[int], depths: Sequence[float]) -> str:
        """The context: chosen sentences with each needle after about its share of the tokens."""
        units = [self.units[i] for i in chosen]
        places = []
        for depth in depths:
            place, passed = 0, 0
            while place < len(chosen):
                cost = self.costs[chosen[place]]
                if passed + cost / 2 > depth * self.room:
                    break
                passed += cost
                place += 1
            places.append(place)
        # From the back, so that no place moves; of two needles at one place the later comes last.
        for number in sorted(range(len(places)), key=lambda i: (places[i], depths[i]))[::-1]:
            units.insert(places[number], " " + self.needles[number])
        return "".join(units).lstrip()

    def _seam(
        self, context: str, question: str, starts: Sequence[int]
    ) -> tuple[int, bool, tuple[int, ...], int]:
        """Tokens of the context, whether it ends between tokens, needles' tokens, all tokens."""
        begins, ends = tokenize(self.tokenizer, context + question)
        seam = bisect_left(begins, len(context))
        clean = ends[seam - 1] <= len(context) and seam < len(begins)
        return seam, clean, tuple(bisect_right(ends, start) for start in starts), len(begins)

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
        self.leading = tokenize(tokenizer, "x")[1].count(0)

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


def tokenize(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
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
