"""Documents of lm-eval's tasks in the fields of gistbench's own, and RULER's documents made."""

from __future__ import annotations

import contextlib
import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gistbench import ruler
from gistbench.errors import PrerequisiteError, UsageError, first_line

NUMPY_SEED = 1234
"""lm-eval's default; Python's own generator gets the seed of the run, lm-eval's default being 0."""


def own_fields(task: str, document: Mapping[str, Any], prompt: str) -> dict[str, Any]:
    """A document with ``id``, ``context``, ``question`` and ``answer``, whoever made it.

    Args:
        task: Its name.
        document: As lm-eval hands it over.
        prompt: What lm-eval asks: exactly context and question joined.

    Returns:
        A document of gistbench's own as it is; one of RULER's with ``values`` besides, the parts
        of its answer, and the place of the first of them in the context.

    Raises:
        UsageError: It does not say where the context ends, or the prompt holds more.
    """
    if "context" in document and "question" in document:
        if prompt != document["context"] + document["question"]:
            raise UsageError(
                f"task {task} prompts with more than context and question (few-shot examples, a "
                "chat template or an instruction); run it without these"
            )
        return dict(document)
    if task not in ruler.TASKS or "gen_prefix" not in document:
        raise UsageError(
            f"task {task} does not say where its context ends; gistbench needs documents with the "
            "fields context and question"
        )
    context, question = ruler.split_prompt(task, document, prompt)
    values = [str(value) for value in document["outputs"]]
    start = context.find(values[0])
    return {
        "id": f"{task}/{document['max_length']}/{document['index']}",
        "index": document["index"],
        "context": context,
        "question": question,
        "answer": ", ".join(values),
        "values": values,
        "needle_start": start if start >= 0 else None,
        "needle_end": start + len(values[0]) if start >= 0 else None,
    }


def own_scores(task: str, entry: Mapping[str, Any]) -> dict[str, float]:
    """Scores of one of lm-eval's logged samples, by name.

    RULER's tasks name their metric by the length (``"4096"``) and give -1 to the other lengths.
    It is kept as ``string_match_all``, a share where there are several values; ``exact_match`` is
    1 only where that share is 1.
    """
    if task not in ruler.TASKS:
        return {name: float(entry[name]) for name in entry["metrics"]}
    share = float(entry[str(entry["doc"]["max_length"])])
    return {"exact_match": float(share == 1), "string_match_all": share}


def load_ruler(
    name: str, *, tokenizer_folder: Path, max_tokens: int, seed: int, trust_remote_code: bool
) -> Any:
    """lm-eval's task with its documents, those of ``lm_eval run --tasks NAME`` alone.

    The documents come from the global random generators, which lm-eval seeds when it begins; here
    they are seeded before each task, so that no task depends on the others of a run.

    Args:
        name: One of `gistbench.ruler.TASKS`.
        tokenizer_folder: Tokenizer that lengths are counted with.
        max_tokens: Bound on prompt and answer together; lm-eval stays below it.
        seed: Of the documents.
        trust_remote_code: Whether a tokenizer may bring its own code; lm-eval would let it.

    Returns:
        The `lm_eval.api.task.Task`.

    Raises:
        UsageError: No document of this length can be made.
        PrerequisiteError: The essays are not here and cannot be fetched, or the tokenizer wants to
            run code of its own.
    """
    import numpy
    from lm_eval.tasks import TaskManager

    ruler.require_packages(name)  # also in a worker, whose environment may be another one
    _require_plain_tokenizer(name, tokenizer_folder, trust_remote_code)
    # The generators print, and what is printed may be what somebody reads.
    with contextlib.redirect_stdout(sys.stderr):
        if ruler.TASKS[name].needs_essays:
            _require_essays(name)
        _require_length(name, tokenizer_folder, max_tokens)
        manager = TaskManager(
            include_path=str(ruler.folder()),
            include_defaults=False,
            metadata={"tokenizer": str(tokenizer_folder), "max_seq_lengths": [max_tokens]},
        )
        random.seed(seed)
        numpy.random.seed(NUMPY_SEED)
        try:
            return manager.load([name])["tasks"][name]
        except ValueError as error:
            raise UsageError(
                f"--context-tokens {max_tokens:,} is too short for task {name} with this "
                f"tokenizer ({first_line(error)}); pass more"
            ) from error


def _require_plain_tokenizer(name: str, folder: Path, trusted: bool) -> None:
    file = folder / "tokenizer_config.json"
    if trusted or not file.is_file():
        return
    if "auto_map" in json.loads(file.read_text(encoding="utf-8")):
        raise PrerequisiteError(
            f"task {name} would run the code that the tokenizer in {folder} brings, as lm-eval "
            "loads it; pass --trust-remote-code if you trust it"
        )


def _require_essays(name: str) -> None:
    import nltk
    from lm_eval.tasks.ruler.prepare_niah import get_haystack

    try:
        get_haystack(type_haystack="essay")
        nltk.data.find("tokenizers/punkt_tab")
    # What a missing download raises differs between the versions of datasets; all of it is one
    # thing to the user. LookupError is nltk's.
    except (OSError, ValueError, RuntimeError, LookupError) as error:
        raise PrerequisiteError(
            f"task {name} hides its needles in essays that lm-eval downloads (data set "
            "baber/paul_graham_essays, nltk's punkt_tab), and they are not here "
            f"({type(error).__name__}); run it once with network and HF_HUB_OFFLINE=0, or choose "
            "niah_single_1"
        ) from error


def _require_length(name: str, tokenizer_folder: Path, max_tokens: int) -> None:
    """Refuse lengths at which two of the generators would look for a text that fits for ever."""
    from lm_eval.tasks.ruler.common_utils import get_tokenizer

    if name not in _LEAST_TOKENS:
        return
    tokenizer = get_tokenizer(str(tokenizer_folder))
    least = _LEAST_TOKENS[name](tokenizer)
    if max_tokens < least:
        raise UsageError(
            f"--context-tokens {max_tokens:,} is too short for task {name} with this tokenizer; "
            f"pass {least:,} or more"
        )


def _least_chain(tokenizer: Any) -> int:
    """ruler_vt: an example of five lines within 500 tokens, then a text of ten lines or more.

    Its names are drawn, so its lengths are the longest of some draws.
    """
    from lm_eval.tasks.ruler.vt_utils import generate_input_output

    def longest(lines: int, is_example: bool) -> int:
        drawn = (generate_input_output(lines, 1, 4, is_icl=is_example) for _ in range(20))
        return max(len(tokenizer(f"{text} {names}")["input_ids"]) for text, names in drawn)

    answer_tokens = 30
    example = longest(5, is_example=True) + answer_tokens
    if example > 490:
        raise UsageError(
            "task ruler_vt begins with an example of up to 500 tokens, and the shortest takes "
            f"{example} with this tokenizer; choose another task"
        )
    # The example that is made may be as long as it may be, and has its answer and an end.
    return longest(10, is_example=False) + answer_tokens + 560


def _least_words(tokenizer: Any) -> int:
    """ruler_fwe: its template, and the four words that a fiftieth of the length allows."""
    from lm_eval.tasks.ruler.fwe_utils import TEMPLATE

    return max(256, 2 * len(tokenizer(TEMPLATE)["input_ids"]))


_LEAST_TOKENS = {"ruler_vt": _least_chain, "ruler_fwe": _least_words}
