"""Samples, and the table of them that lm-eval reads."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets  # type: ignore[import-untyped,unused-ignore]


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
        context: The document, needles included.
        question: What follows the document, up to where the answer begins.
        answer: What the continuation must be, without the space before it.
        entropy_bits: Bits that the answer holds for who knows the task but not the document;
            ``None`` where nobody can say.
        context_tokens: Tokens of the prompt that belong to the context, a leading special token
            included, when context and question are tokenised together.
        prompt_tokens: Tokens of the whole prompt with the tokenizer's defaults.
        depth: Requested position of the needle that the answer is in, 0 (first sentence) to 1
            (last); of the first of several; ``None`` where there is none.
        needle_depth: Index of that needle's first token / ``context_tokens``.
        needle: The sentence itself, empty where there is none.
        needle_start: Offset of the needle in ``context``, in characters.
        needle_end: Offset after the needle's last character.
        num_needles: Sentences in the document that state something; ``None`` where nobody counted.
        choices: The answers that the question names; empty where it names none.
    """

    id: str
    task: str
    index: int
    seed: int
    split: str
    language: str
    context: str
    question: str
    answer: str
    entropy_bits: float | None
    context_tokens: int
    prompt_tokens: int
    depth: float | None
    needle_depth: float | None
    needle: str
    needle_start: int | None
    needle_end: int | None
    num_needles: int | None
    choices: tuple[str, ...] = ()

    @property
    def prompt(self) -> str:
        """The whole prompt: context, then question, with nothing between or around them."""
        return self.context + self.question


def table(
    make: Callable[[], Iterable[Sample]], kept: Path | None = None
) -> dict[str, "datasets.Dataset"]:
    """``{"test": dataset}``, one row for each sample, with the prompt's hash.

    Args:
        make: Makes the samples.
        kept: A file that holds the rows of an earlier call, or shall hold those of this one.
    """
    from datasets import Dataset

    if kept is not None and kept.is_file():
        return {"test": Dataset.from_list(json.loads(kept.read_text(encoding="utf-8")))}
    rows = []
    for sample in make():
        digest = hashlib.sha256(sample.prompt.encode()).hexdigest()
        rows.append({**asdict(sample), "prompt_sha256": digest})
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}.partial")  # others may be at it too
        partial.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        partial.replace(kept)
    return {"test": Dataset.from_list(rows)}


def tokenizer_of(kwargs: Mapping[str, Any]) -> Any:
    """The tokenizer that lm-eval's arguments name.

    Raises:
        ValueError: None is named.
    """
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


def positions_of(kwargs: Mapping[str, Any]) -> int | None:
    """How many tokens the model that lm-eval's arguments name can take; ``None`` if nothing says.

    ``max_length``, the argument that lm-eval itself has for this, goes before what the model says.
    """
    from transformers import AutoConfig

    if kwargs.get("max_length") is not None:
        return int(kwargs["max_length"])
    source = kwargs.get("pretrained") or kwargs.get("tokenizer")
    if isinstance(source, str | Path):
        passed = ("gguf_file", "revision", "subfolder", "trust_remote_code")
        options = {name: kwargs[name] for name in passed if kwargs.get(name) is not None}
        try:
            config = AutoConfig.from_pretrained(source, **options)
        except (OSError, ValueError):  # a tokenizer alone
            return None
    else:
        config = getattr(source, "config", None)
    found = getattr(config, "max_position_embeddings", None)
    return int(found) if found else None
