"""RULER's tasks, which lm-eval ships: which of them arms can run, and where their question begins.

RULER: Hsieh et al., 2024 (arXiv 2404.06654). The tasks are lm-eval's, unchanged: its YAML,
documents, prompts and scoring. All that is added here is the seam that gistbench needs. Imports no
lm-eval: a command line must not wait for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gistbench.errors import PrerequisiteError, UsageError

NUM_DOCUMENTS = 500
"""What lm-eval makes of each task, whatever is asked for."""

MEANING = "every value occurs in the answer, upper and lower case alike (string_match_all is 1)"
"""What exact_match is in these tasks."""


PACKAGES = ("wonderwords", "nltk")
"""What lm-eval imports for any of these tasks: the optional extra ``ruler``."""


@dataclass(frozen=True, slots=True)
class RulerTask:
    """One task of lm-eval's folder ``ruler``.

    Attributes:
        name: As in ``--tasks``.
        file: Its YAML file.
        question: What the last line of a document must be: the question. Instruction, any worked
            example and text stand before it.
        needs_essays: Whether its haystack is downloaded.
    """

    name: str
    file: str
    question: re.Pattern[str]
    needs_essays: bool = False


_NEEDLE = re.compile(
    r"What (?:is|are all) the special magic (?:number|uuid)s? for .+ mentioned in the provided "
    r"text\?"
)
_CHAIN = re.compile(
    r"Question: Find all variables that are assigned the value \d+ in the text above\."
)
_WORDS = re.compile(
    r"Question: Do not provide any explanation\. Please ignore the dots '\.\.\.\.'\. What are the "
    r"three most frequently appeared words in the above coded text\?"
)
_ESSAYS = ("single_2", "single_3", "multikey_1", "multivalue", "multiquery")
_NO_ESSAYS = ("single_1", "multikey_2", "multikey_3")

# Not among them: ruler_cwe, whose documents depend on what its process made before, and the two
# ruler_qa tasks, which are scored by any of several answers.
TASKS: dict[str, RulerTask] = {
    task.name: task
    for task in (
        *(
            RulerTask(f"niah_{kind}", f"niah_{kind}.yaml", _NEEDLE, kind in _ESSAYS)
            for kind in sorted(_ESSAYS + _NO_ESSAYS)
        ),
        RulerTask("ruler_vt", "vt.yaml", _CHAIN),
        RulerTask("ruler_fwe", "fwe.yaml", _WORDS),
    )
}


def folder() -> Path:
    """lm-eval's folder of these tasks.

    Raises:
        PrerequisiteError: lm-eval is not installed, or has no such folder.
    """
    package = find_spec("lm_eval")
    places = list(package.submodule_search_locations or ()) if package else []
    for place in places:
        if (found := Path(place) / "tasks" / "ruler").is_dir():
            return found
    raise PrerequisiteError("lm-eval's RULER tasks are not installed; run `pip install lm-eval`")


def task_version(declared: object) -> str:
    """A task's version: lm-eval's number does not change with the code that makes documents."""
    return f"{declared}, lm-eval {version('lm_eval')}"


def require_possible(names: tuple[str, ...], *, samples: int | None, split: str) -> None:
    """Refuse tasks that cannot run here, before any arm has begun.

    Args:
        names: Tasks of a run; those that are not RULER's are passed over.
        samples: Asked for, if a number was.
        split: Of the run.

    Raises:
        UsageError: More samples than documents, or a split other than test.
        PrerequisiteError: A package of the optional extra ``ruler`` is missing.
    """
    for task in (TASKS[name] for name in names if name in TASKS):
        if split != "test":
            raise UsageError(f"--split {split}: task {task.name} has a test split alone; drop it")
        if samples is not None and samples > NUM_DOCUMENTS:
            raise UsageError(
                f"--samples {samples:,}: lm-eval makes {NUM_DOCUMENTS} documents of task "
                f"{task.name}; pass --samples {NUM_DOCUMENTS} or less"
            )
        require_packages(task.name)


def require_packages(name: str) -> None:
    """Refuse a task whose optional packages this Python does not have.

    Raises:
        PrerequisiteError: Says how to install them.
    """
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise PrerequisiteError(
            f"task {name} needs {' and '.join(missing)}, not installed here; run "
            f"`pip install {' '.join(missing)}`"
        )


def split_prompt(name: str, document: Mapping[str, Any], prompt: str) -> tuple[str, str]:
    """Say where the question of a prompt begins.

    Args:
        name: Of the task.
        document: As lm-eval made it, with ``input`` and ``gen_prefix``.
        prompt: What lm-eval asks: the two joined by a space.

    Returns:
        Context (instruction, worked example, text, and the line break after them) and question
        (question and the beginning of the answer). Joined they are the prompt.

    Raises:
        UsageError: The prompt is more than its document, or does not end in the task's question.
    """
    text = str(document["input"])
    if prompt != f"{text} {document['gen_prefix']}":
        raise UsageError(
            f"task {name} prompts with more than its document (few-shot examples, a chat template "
            "or an instruction); run it without these"
        )
    before, line_break, question = text.rpartition("\n")
    if not before or TASKS[name].question.fullmatch(question) is None:
        raise UsageError(
            f"task {name} of this lm-eval ({version('lm_eval')}) does not end in the question that "
            "gistbench knows, so its context cannot be told from it; install the lm-eval of "
            "constraints.txt"
        )
    context = before + line_break
    return context, prompt[len(context) :]
