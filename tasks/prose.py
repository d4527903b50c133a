"""Haystacks of prose that people wrote: the shipped excerpts, or a user's own text files.

Text files are read as they are, Markdown too: blank lines part paragraphs, and a sentence ends with
a full stop, a question mark or the like before white space. Sentences with five digits in a row
are left out, since they would read as keys.
"""

import gzip
import hashlib
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

EXCERPTS = Path(__file__).with_name("prose_en.json.gz")
SUFFIXES = (".txt", ".md")

_END = re.compile(r"""[.!?…。！？]+["'”’»)\]_*]*\s+(?=[^\sa-z])""")
_ABBREVIATION = re.compile(
    r"""["'“‘«(\[_*]*(?:(?:[A-Za-z]\.)+|(?:Mr|Mrs|Ms|Dr|St|Capt|Col|Gen|Hon|Rev|Prof|Messrs|Esq|Sr
    |Jr|Lt|Sgt|Maj|No|Nos|vol|vols|p|pp|ch|chap|cf|viz|vs|etc|fig|approx|[A-Z])\.)$""",
    re.VERBOSE,
)
_KEYLIKE = re.compile(r"\d{5}")
_SHORTEST_SHARE, _LEAST_SHORT, _BROKEN_OFF = 20, 40, 9


@dataclass(frozen=True)
class Prose:
    """Whole sentences, each with the white space before it.

    Attributes:
        units: In the order of the text; no sentence has five digits in a row.
        sha256: Of the files or excerpts that they came from, names included.
    """

    units: tuple[str, ...]
    sha256: str

    @cached_property
    def short(self) -> tuple[str, ...]:
        """The shortest sentences of more than one word, for landing on an exact length."""
        every = {unit.lstrip() for unit in self.units}
        ordered = sorted((" " not in text, len(text), text) for text in every)
        share = max(_LEAST_SHORT, len(ordered) // _SHORTEST_SHARE)
        return tuple(text for _, _, text in ordered[:share])


class Reader:
    """Reads prose from a sentence that ``rng`` draws, once round; drafts as a writer does.

    Args:
        prose: What to read.
        rng: Draws where to begin, and short sentences.
        break_off: Short sentences are the beginnings of others, for texts whose whole sentences
            add up to no exact length.
    """

    def __init__(self, prose: Prose, rng: random.Random, *, break_off: bool = False) -> None:
        start = int(rng.random() * len(prose.units))
        self.prose, self.rng, self.break_off = prose, rng, break_off
        self._left = iter((*prose.units[start:], *prose.units[:start]))

    def running(self) -> Iterator[str]:
        """Sentences in the order of the text, each with the white space before it."""
        return self._left

    def sentence(self) -> str:
        """The next sentence; once round, any of the short ones."""
        unit = next(self._left, None)
        return self.short_sentence() if unit is None else unit.lstrip()

    def short_sentence(self) -> str:
        """Any of the text's short sentences."""
        if self.break_off:
            words = self.prose.units[int(self.rng.random() * len(self.prose.units))].split()
            return " ".join(words[: 1 + int(self.rng.random() * _BROKEN_OFF)]) + " ..."
        return self.prose.short[int(self.rng.random() * len(self.prose.short))]


@lru_cache
def shipped(split: str) -> Prose:
    """The excerpts of a split.

    Raises:
        ValueError: There is no such split.
    """
    held = json.loads(gzip.decompress(EXCERPTS.read_bytes()))
    if split not in held:
        raise ValueError(f"the prose has no split {split!r}; it has {' and '.join(held)}")
    text = "\n\n".join(paragraph for work in held[split] for paragraph in work["paragraphs"])
    return _prose(text, hashlib.sha256(text.encode()).hexdigest())


def of_path(path: str | Path) -> Prose:
    """The prose of a text file, or of every .txt and .md file in and under a folder.

    Raises:
        ValueError: There is no such path, no such file in it, no text, or a file is no UTF-8 text.
    """
    root = Path(path)
    if root.is_dir():
        files = sorted(
            file for file in root.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()
        )
        if not files:
            raise ValueError(
                f"haystack folder {root} holds no {' or '.join(SUFFIXES)} file; name a folder "
                "that does, or one text file"
            )
    elif root.is_file():
        files = [root]
    else:
        raise ValueError(f"haystack {root} does not exist; name a text file, or a folder of them")
    # Read anew only if a file has changed: every sample of a series asks.
    found = [(file, file.stat()) for file in files]
    prose = _read_files(root, tuple((file, stat.st_mtime_ns, stat.st_size) for file, stat in found))
    if not prose.units:
        raise ValueError(f"haystack {root} holds no sentence; name files with prose in them")
    return prose


@lru_cache(maxsize=4)
def _read_files(root: Path, files: tuple[tuple[Path, int, int], ...]) -> Prose:
    texts, digest = [], hashlib.sha256()
    for file, _, _ in files:
        try:
            raw = file.read_bytes()
        except OSError as error:
            reason = (error.strerror or "unreadable").lower()
            raise ValueError(f"cannot read {file}: {reason}; mend that or leave it out") from error
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{file} is not UTF-8 text (byte {error.start:,}); convert it or leave it out"
            ) from error
        if "\0" in text:
            raise ValueError(f"{file} holds NUL bytes, so it is no text; leave it out")
        texts.append(text)
        name = file.relative_to(root).as_posix() if file != root else ""
        digest.update(json.dumps([name, hashlib.sha256(raw).hexdigest()]).encode())
    return _prose("\n\n".join(texts), digest.hexdigest())


def _prose(text: str, sha256: str) -> Prose:
    units: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        kept = [found for found in sentences(paragraph) if not _KEYLIKE.search(found)]
        units += [(" " if place else "\n\n") + found for place, found in enumerate(kept)]
    return Prose(tuple(units), sha256)


def sentences(paragraph: str) -> Sequence[str]:
    """The sentences of a paragraph, white space within them made single spaces."""
    text = " ".join(paragraph.split())
    found, start = [], 0
    for end in _END.finditer(text):
        last_word = text[start : end.end()].split()[-1]
        if _ABBREVIATION.match(last_word):
            continue
        found.append(text[start : end.end()].strip())
        start = end.end()
    return [*found, text[start:]] if text[start:] else found
