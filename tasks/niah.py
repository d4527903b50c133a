"""Needle-in-a-haystack samples of an exact length in tokens.

A sample is a long document, most often an invented chronicle, in which one or more sentences state
a value, and a question about it. The whole prompt is ``context + question``; the right continuation
is ``" " + answer``. Nothing stands before the context, so whatever reads or compresses it cannot
know the question.

lm-eval loads this file by path (``custom_dataset: !function niah.load``). It needs the standard
library, the files beside it, and, inside :func:`load` only, ``datasets`` and ``transformers``.
Training, validation and test share no value, no needle wording, no label, no sentence template, no
content word and no name. Validation is for choosing between recipes; only test is judged.
"""

import hashlib
import importlib
import math
import random
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets  # type: ignore[import-untyped,unused-ignore]

    from . import documents, fitting, haystack, inflection, needles, own, plans, prose, samples
else:
    # Loaded by path this file belongs to no package; one of this folder's own lets its files find
    # each other, and two copies of the folder stay apart.
    _folder = Path(__file__).resolve().parent
    _package = "niah_tasks_" + hashlib.sha256(str(_folder).encode()).hexdigest()[:12]
    if _package not in sys.modules:
        sys.modules[_package] = types.ModuleType(_package)
        sys.modules[_package].__path__ = [str(_folder)]
    _names = "documents fitting haystack inflection needles own plans prose samples"
    documents, fitting, haystack, inflection, needles, own, plans, prose, samples = (
        importlib.import_module(f"{_package}.{name}") for name in _names.split()
    )

NONE, QUESTIONS, TASKS = plans.NONE, plans.QUESTIONS, plans.TASKS
Sample = samples.Sample
DoesNotFitError = fitting.DoesNotFitError

_GOLDEN = (math.sqrt(5) - 1) / 2


def build_sample(
    tokenizer: Any,
    *,
    task: str,
    split: str,
    context_tokens: int,
    index: int,
    seed: int,
    depth: float | None = None,
    text: str | Path | None = None,
    data_file: str | Path | None = None,
) -> "samples.Sample":
    """Builds one sample; the same arguments give the same text in every process.

    Args:
        tokenizer: A fast Hugging Face tokenizer (it must report character offsets).
        task: One of :data:`TASKS`, or ``own_jsonl``, whose lengths are those of its lines.
        split: ``train``, ``validation`` or ``test``.
        context_tokens: Exact length of the context in this tokenizer's tokens.
        index: Number of the sample, from 0.
        seed: Seed of the series.
        depth: Where the needle goes, 0 to 1; ``None`` takes the next point of a low-discrepancy
            sequence, so that every prefix of a series covers the depths evenly. Further needles
            lie at even distances after it, going round.
        text: A text file, or a folder of them, whose prose takes the haystack's place.
        data_file: What ``own_jsonl`` reads.

    Returns:
        The sample.

    Raises:
        ValueError: An argument is out of range, the task is never trained on, the tokenizer is not
            a fast one, the text is none or too short, or no text of exactly this length could be
            made.
    """
    if task == own.TASK:
        return own.build_sample(tokenizer, own.named(data_file), index, seed=seed, split=split)
    haystack.require_choice("task", task, [*TASKS, own.TASK])
    return _built(tokenizer, task, split, context_tokens, index, seed, depth, text)[0]


def build_turns(
    tokenizer: Any, *, task: str, split: str, context_tokens: int, index: int, seed: int
) -> tuple[str, tuple["plans.Turn", ...]]:
    """The document of the sample that :func:`build_sample` builds, and what may be asked of it.

    Returns:
        The context, and the sample's own turn before others: of labelled values all of them with
        their labels, then each other label's; of two needles the other one's.

    Raises:
        ValueError: As :func:`build_sample`.
    """
    haystack.require_choice("task", task, [*TASKS])
    sample, plan = _built(tokenizer, task, split, context_tokens, index, seed, None, None)
    own = plans.Turn(sample.question, sample.answer, sample.needle)
    return sample.context, (own, *plan.also)


def _built(
    tokenizer: Any,
    task: str,
    split: str,
    context_tokens: int,
    index: int,
    seed: int,
    depth: float | None,
    text: str | Path | None,
) -> tuple["samples.Sample", "plans.Plan"]:
    kind, part = TASKS[task], haystack.require_split(split)
    lang = haystack.require_language(kind.language)
    if part == "train" and not kind.trained:
        raise ValueError(f"{task} is never trained on; its splits are validation and test")
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} is not a fast tokenizer: exact lengths need character "
            "offsets; load it with AutoTokenizer.from_pretrained(..., use_fast=True)"
        )
    if index < 0:
        raise ValueError(f"index is {index}; samples are numbered from 0")
    if depth is not None and not 0 <= depth <= 1:
        raise ValueError(f"depth is {depth}; it must lie between 0 and 1")
    document = index // 2 if kind.form == "two" else index
    length = f"{part}/{context_tokens}/seed{seed}"
    suffix = "" if depth is None else f"/depth{depth:g}"
    first = low_discrepancy_depth(seed, document) if depth is None else depth
    # What is hidden and asked depends on no haystack, so that haystacks can be compared in pairs.
    plan_name = f"{kind.like or task}/{length}/{document}{suffix}"
    if not kind.has_haystack:
        text = None
    series = f"{task}/{length}" + (f"/{own_mark(task, text)}" if text else "")
    text_name = f"{series}/{document}{suffix}"
    shipped = prose.shipped(part) if kind.prose else None
    written = prose.of_path(text) if text else shipped
    shortest = 0
    for attempt in range(fitting.ATTEMPTS):
        redraw = attempt if part == "train" else 0  # what a grammar wrote may be too long
        if kind.form in plans.DOCUMENT_FORMS:
            plan = documents.plan_document(kind, part, series, index, context_tokens, redraw)
        else:
            plan = plans.plan_sample(task, kind, part, plan_name, index, seed, first, redraw)
        rng = random.Random(haystack.number_of(f"{text_name}/{attempt}"))
        writer: fitting.Writes
        if written:
            writer = prose.Reader(written, rng, break_off=attempt >= fitting.ATTEMPTS // 2)
        else:
            writer = haystack.Writer(lang, part, rng)
        draft = fitting.Draft(tokenizer, writer, plan.needles, context_tokens)
        shortest = max(shortest, draft.shortest)
        fitted = draft.fit(plan.depths, plan.questions)
        if fitted is not None:
            identity: dict[str, Any] = {
                "id": f"{series}/{index}{suffix}",
                "task": task,
                "index": index,
                "seed": seed,
                "split": part,
                "language": lang,
                "context_tokens": context_tokens,
            }
            return Sample(**identity, **_located(plan, fitted, context_tokens)), plan
    if context_tokens < 2 * shortest:
        raise DoesNotFitError(
            f"context_tokens is {context_tokens}, too small in this tokenizer for the needle of "
            f"{series}/{index} and a sentence beside it; ask for at least {2 * shortest}"
        )
    raise ValueError(
        f"no text of exactly {context_tokens} tokens was found for {series}/{index} in "
        f"{fitting.ATTEMPTS} attempts; the tokenizer may join the context's end with the question, "
        "or lack these characters"
    )


def _located(plan: "plans.Plan", fitted: "fitting.Fitted", context_tokens: int) -> dict[str, Any]:
    """The fields of a sample that its plan and its text decide."""
    fields: dict[str, Any] = {
        "context": fitted.context,
        "question": plan.questions[0],
        "answer": plan.answer,
        "entropy_bits": plan.entropy_bits,
        "prompt_tokens": fitted.prompt_tokens[0],
        "num_needles": len(plan.needles),
        "choices": plan.choices,
        "depth": None,
        "needle_depth": None,
        "needle": "",
        "needle_start": None,
        "needle_end": None,
    }
    if plan.asked is not None:
        needle, start = plan.needles[plan.asked], fitted.starts[plan.asked]
        fields |= {
            "depth": plan.depths[plan.asked],
            "needle_depth": fitted.first_tokens[plan.asked] / context_tokens,
            "needle": needle,
            "needle_start": start,
            "needle_end": start + len(needle),
        }
    return fields


def own_mark(task: str, text: str | Path | None = None, data_file: str | Path | None = None) -> str:
    """What stands in names for the user's texts that a task is made of; empty where it is of none.

    Raises:
        ValueError: The texts cannot be read.
    """
    if task == own.TASK:
        return f"data-{own.named(data_file).sha256[:12]}"
    if text and TASKS[task].has_haystack:
        return f"haystack-{prose.of_path(text).sha256[:12]}"
    return ""


def own_count(data_file: str | Path | None) -> int:
    """Questions in a user's file.

    Raises:
        ValueError: It cannot be read.
    """
    return len(own.named(data_file).lines)


def own_line_alone(data_file: str | Path | None, count: int | None = None) -> int | None:
    """Number of a line of a user's file that :func:`own.line_alone` finds; None for none.

    Raises:
        ValueError: The file cannot be read.
    """
    return own.line_alone(own.named(data_file).lines[:count])


def low_discrepancy_depth(seed: int, index: int) -> float:
    """Depth of sample ``index``, in [0, 1): steps of the golden ratio from a start set by seed."""
    start: float = haystack.fraction_of(f"niah/depth/{seed}")
    return (start + index * _GOLDEN) % 1.0


def score(answer: str, output: str, *, task: str = "niah_passkey") -> dict[str, float]:
    """Scores one generated text.

    Args:
        answer: The right answer.
        output: The generated text, already cut at the task's stop strings.
        task: One of :data:`TASKS`, or ``own_jsonl``, where a full stop at the end says nothing.

    Returns:
        ``exact_match`` (1 if the text without surrounding white space is the answer and nothing
        else), ``contains`` (1 if the answer occurs in it) and ``digit_accuracy`` (fraction of the
        answer's characters that stand at their place in that text). ``niah_absent`` adds
        ``stated_key`` (a number is stated) and ``said_none``.
    """
    text = output.strip()
    form = TASKS[task].form if task in TASKS else None
    if task == own.TASK:
        answer, text = answer.removesuffix("."), text.removesuffix(".")
    if answer == NONE or form in plans.DOCUMENT_FORMS:
        text = output = text.lower()  # a word, and how it is written says nothing
    right = sum(a == b for a, b in zip(answer, text, strict=False))
    scores = {
        "exact_match": float(text == answer),
        "contains": float(answer in output),
        "digit_accuracy": right / len(answer),
    }
    if form == "absent":
        scores["stated_key"] = float(re.search(r"\d", text) is not None)
        scores["said_none"] = float(text.lower().startswith(NONE))
    return scores


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's hook: the metrics of one generated text, as :func:`score` gives them."""
    task = str(doc.get("task", "niah_passkey"))
    return score(str(doc["answer"]), str(results[0]), task=task)


def load(**kwargs: Any) -> dict[str, "datasets.Dataset"]:
    """lm-eval's hook: builds the test samples in the evaluated model's own tokens.

    Args:
        **kwargs: The task's YAML metadata and the model's arguments. Used are ``task``,
            ``context_tokens``, ``num_samples``, ``seed``, ``split``; ``haystack`` (a text file or a
            folder of them, whose prose takes the haystack's place); ``data_file`` (what
            ``own_jsonl`` reads); for the tokenizer
            ``tokenizer`` (a name, a folder or an object) or ``pretrained``, with ``gguf_file``,
            ``revision``, ``subfolder``, ``trust_remote_code``, ``add_bos_token``; and
            ``cache_folder``, where samples are kept for other processes of the same run. Others
            are ignored.

    Returns:
        ``{"test": dataset}`` with one column for each field of :class:`Sample`, and
        ``prompt_sha256``, the hexadecimal SHA-256 of the prompt's UTF-8 bytes.

    Raises:
        ValueError: No tokenizer is named, or an argument is out of range.
    """
    task, split = str(kwargs.get("task", "niah_passkey")), str(kwargs.get("split", "test"))
    if task == own.TASK:
        return own.load(kwargs)
    num_samples = int(kwargs.get("num_samples", 200))
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}; at least 1 is needed")
    context_tokens, seed = int(kwargs.get("context_tokens", 4925)), int(kwargs.get("seed", 0))
    text = kwargs.get("haystack")

    def make() -> Iterator[samples.Sample]:
        tokenizer = samples.tokenizer_of(kwargs)
        for index in range(num_samples):
            yield build_sample(
                tokenizer,
                task=task,
                split=split,
                context_tokens=context_tokens,
                index=index,
                seed=seed,
                text=text,
            )

    kept = None
    if kwargs.get("cache_folder"):
        name = f"{task}-v{kwargs.get('version', '?')}-{split}-{context_tokens}-{num_samples}"
        name = "-".join(filter(None, (name, f"seed{seed}", own_mark(task, text))))
        kept = Path(str(kwargs["cache_folder"])) / f"{name}.json"
    return samples.table(make, kept)


__all__ = ["QUESTIONS", "TASKS", "Sample", "build_sample", "load", "score"]
