"""A user's own questions: one JSON object with ``context``, ``question``, ``answer`` on each line.

Texts are taken as they are, except that white space after a context is left out and ``" \\n\\n"``
stands before a question that begins with none. Nothing is ever cut to a length.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import fitting, samples

if TYPE_CHECKING:
    import datasets  # type: ignore[import-untyped,unused-ignore]

TASK = "own_jsonl"
FIELDS = ("context", "question", "answer")
STOPS = ("\n", ". ")
"""What ends an answer, as in own_jsonl.yaml."""


@dataclass(frozen=True, slots=True)
class Line:
    """One question.

    Attributes:
        number: Of its line, from 1.
        id: The user's, or ``lineN``.
    """

    number: int
    id: str
    context: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class OwnData:
    """A file of questions: its lines, its name and the SHA-256 of its bytes."""

    name: str
    sha256: str
    lines: tuple[Line, ...]


def named(path: str | Path | None) -> OwnData:
    """As :func:`read`, of a file that has to be named.

    Raises:
        ValueError: None is named, or it cannot be read.
    """
    if path is None:
        raise ValueError(
            f"{TASK} reads a file of yours and none is named; pass --data-file FILE, or lm-eval's "
            '--metadata \'{"data_file": "FILE"}\''
        )
    return read(path)


def read(path: str | Path) -> OwnData:
    """Reads a file of questions.

    Raises:
        ValueError: There is no such file, it is empty, or a line of it cannot be used.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"data file {file} does not exist; name a file of JSON lines")
    stat = file.stat()
    return _read(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _read(file: Path, _changed: int, _size: int) -> OwnData:
    try:
        raw = file.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise ValueError(f"cannot read {file}: {reason}; mend that or name another") from error
    except UnicodeDecodeError as error:
        number = raw[: error.start].count(b"\n") + 1
        raise ValueError(f"{file} line {number}: not UTF-8 text; convert the file") from error
    lines: list[Line] = []
    seen: dict[tuple[str, ...], int] = {}
    for number, written in enumerate(text.split("\n"), start=1):
        if not written.strip():
            continue
        try:
            line = _line(number, written)
            for what, key in (("id", (line.id,)), ("prompt", (line.context, line.question))):
                if (first := seen.setdefault(key, number)) != number:
                    raise ValueError(f"its {what} is that of line {first}; leave one of them out")
        except ValueError as error:
            raise ValueError(f"{file} line {number}: {error}") from error
        lines.append(line)
    if not lines:
        raise ValueError(f"{file} holds no line; write one JSON object on each")
    return OwnData(file.name, hashlib.sha256(raw).hexdigest(), tuple(lines))


def _line(number: int, written: str) -> Line:
    try:
        fields = json.loads(written)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"no JSON ({error.msg.lower()} at character {error.pos + 1}); write one object on it"
        ) from error
    if not isinstance(fields, dict):
        raise ValueError(f"a JSON {type(fields).__name__}; write an object")
    for name in FIELDS:
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise ValueError(f"{name!r} is missing, empty or no text; give all of {FIELDS}")
    unknown = sorted(fields.keys() - {*FIELDS, "id"})
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}; only {(*FIELDS, 'id')} are known")
    answer = fields["answer"].strip()
    for stop in STOPS:
        if stop in answer:
            raise ValueError(f"the answer holds {stop!r}, where generation ends; write it without")
    question = fields["question"]
    if not question[0].isspace():
        question = f" \n\n{question}"
    name = str(fields.get("id", f"line{number}"))
    return Line(number, name, fields["context"].rstrip(), question.rstrip(), answer)


def line_alone(lines: Sequence[Line]) -> int | None:
    """Number of the first line that no other differs from in both context and answer."""
    for line in lines:
        if not any(o.context != line.context and o.answer != line.answer for o in lines):
            return line.number
    return None


def build_sample(
    tokenizer: Any,
    data: OwnData,
    index: int,
    *,
    seed: int,
    split: str,
    max_positions: int | None = None,
    answer_tokens: int = 0,
) -> samples.Sample:
    """The sample of line ``index``, counted from 0 without empty lines.

    Args:
        tokenizer: A fast Hugging Face tokenizer.
        data: What :func:`read` gives.
        index: Place among the lines.
        seed: Only named in the sample: nothing is drawn.
        split: Only named in the sample.
        max_positions: Tokens that the model can read and write.
        answer_tokens: How many of these are for the answer.

    Raises:
        ValueError: There is no such line, a token spans context and question, or the prompt is
            longer than the model's positions.
    """
    if not 0 <= index < len(data.lines):
        raise ValueError(f"{data.name} has {len(data.lines)} lines; ask for that many samples")
    line = data.lines[index]
    begins, ends = fitting.tokenize(tokenizer, line.context + line.question)
    seam = sum(begin < len(line.context) for begin in begins)
    if ends[seam - 1] > len(line.context):
        raise ValueError(
            f"{data.name} line {line.number}: a token spans the end of the context and the start "
            "of the question; begin the question with a space or a line break"
        )
    if max_positions is not None and len(begins) + answer_tokens > max_positions:
        raise ValueError(
            f"{data.name} line {line.number}: its prompt has {len(begins):,} tokens, and "
            f"{max_positions - answer_tokens:,} are allowed beside {answer_tokens} for the "
            "answer; shorten it, or choose a model with more positions"
        )
    return samples.Sample(
        id=f"{TASK}/{data.sha256[:12]}/{line.id}",
        task=TASK,
        index=index,
        seed=seed,
        split=split,
        language="any",
        context=line.context,
        question=line.question,
        answer=line.answer,
        entropy_bits=None,
        context_tokens=seam,
        prompt_tokens=len(begins),
        depth=None,
        needle_depth=None,
        needle="",
        needle_start=None,
        needle_end=None,
        num_needles=None,
    )


def load(kwargs: Mapping[str, Any]) -> dict[str, "datasets.Dataset"]:
    """The table of a user's file, as many lines as ``num_samples`` says, or all.

    Raises:
        ValueError: The file cannot be used, or a prompt is longer than the model's positions.
    """
    data = named(kwargs.get("data_file"))
    count, split = int(kwargs.get("num_samples") or len(data.lines)), kwargs.get("split", "test")

    def make() -> Iterator[samples.Sample]:
        tokenizer, positions = samples.tokenizer_of(kwargs), samples.positions_of(kwargs)
        for index in range(count):
            yield build_sample(
                tokenizer,
                data,
                index,
                seed=int(kwargs.get("seed", 0)),
                split=str(split),
                max_positions=positions,
                answer_tokens=int(kwargs.get("answer_tokens", 0)),
            )

    kept = None
    if kwargs.get("cache_folder"):
        name = f"{TASK}-v{kwargs.get('version', '?')}-{split}-{count}-data-{data.sha256[:12]}"
        kept = Path(str(kwargs["cache_folder"])) / f"{name}.json"
    return samples.table(make, kept)
