"""The task generators, loaded from the tasks folder that plain lm-eval reads too.

There is one generator for training, evaluation and lm-eval: a file in ``tasks/`` that needs nothing
of gistbench. Tasks that lm-eval ships itself (`gistbench.ruler`) are known here by name and YAML;
they can be run, and not trained on.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from gistbench import ruler
from gistbench.errors import UsageError, did_you_mean
from gistbench.resources import shipped

OWN_DATA = "own_jsonl"
"""The task whose samples are a user's own questions."""


class _TaskLoader(yaml.SafeLoader):
    """Reads task YAML; ``!function`` becomes the name it holds."""


_TaskLoader.add_constructor("!function", lambda _, node: str(node.value))


def tasks_folder() -> Path:
    """The folder to give lm-eval as ``--include_path``."""
    return shipped("tasks")


def task_names() -> list[str]:
    """Names of the tasks that ship."""
    return sorted(name for name in _files() if name not in task_groups())


@cache
def task_groups() -> dict[str, tuple[str, ...]]:
    """Groups of tasks, as lm-eval knows them: name -> its tasks."""
    read = {name: _read(tasks_folder() / f"{name}.yaml") for name in _files()}
    return {name: tuple(fields["task"]) for name, fields in read.items() if "group" in fields}


def expand(names: tuple[str, ...]) -> tuple[str, ...]:
    """Task names with every group replaced by its tasks, each once.

    Raises:
        UsageError: No name, or an unknown one, with the nearest.
    """
    if not names:
        raise UsageError("--tasks names no task; `gistbench tasks` lists those that there are")
    found = [task for name in names for task in task_groups().get(name, (name,))]
    require_tasks(tuple(found))
    return tuple(dict.fromkeys(found))


def _files() -> list[str]:
    return [path.stem for path in tasks_folder().glob("[!_]*.yaml")]


def require_tasks(names: tuple[str, ...]) -> None:
    """Refuse unknown task names.

    Raises:
        UsageError: With the nearest name.
    """
    for name in names:
        if name not in task_names() and name not in ruler.TASKS:
            known = [*task_names(), *task_groups(), *ruler.TASKS]
            raise UsageError(f"unknown task {name!r}, {did_you_mean(name, known)}")


def require_trained(names: tuple[str, ...], where: str = "--data.tasks") -> None:
    """Refuse, for training, unknown task names and tasks without a training split.

    Args:
        names: Of tasks.
        where: The flag they were written in.

    Raises:
        UsageError: With the nearest name, or with what the task is for.
    """
    require_tasks(names)
    for name in names:
        splits = task_definition(name)["metadata"].get("splits", ["train"])
        if "train" not in splits:
            raise UsageError(
                f"task {name} is never trained on, so that it stays a test of what training did "
                f"not show (it has {' and '.join(splits)}); take another in {where}"
            )
        if not hasattr(generator(name), "build_turns"):
            raise UsageError(
                f"task {name} has a generator without build_turns, which training draws from; add "
                "it there, or train on another task"
            )


@cache
def task_definition(name: str) -> dict[str, Any]:
    """A task's YAML with its include resolved; functions appear by name.

    Raises:
        UsageError: Unknown task, or a broken file with its line.
    """
    require_tasks((name,))
    if name not in ruler.TASKS:
        return _read(tasks_folder() / f"{name}.yaml")
    fields = _read(ruler.folder() / ruler.TASKS[name].file)
    metadata = {
        **fields["metadata"],
        "version": ruler.task_version(fields["metadata"]["version"]),
        "language": "en",
        "chance_floor": 0.0,  # not declared; no value of these tasks can be guessed
        "splits": ["test"],
    }
    return {**fields, "metadata": metadata}


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = yaml.load(path.read_text(encoding="utf-8"), Loader=_TaskLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise UsageError(f"task file {path.name}{where}: {error}; mend the YAML there") from error
    include = fields.pop("include", None)
    return {**(_read(path.parent / include) if include else {}), **fields}


def generator(task: str) -> ModuleType:
    """The module behind a task: ``load``, and where it can be trained on ``build_turns``."""
    return _module(str(task_definition(task)["custom_dataset"]).split(".")[0])


def build_document(
    task: str,
    tokenizer: Any,
    *,
    split: str,
    context_tokens: int,
    index: int,
    seed: int,
    text: str | None = None,
    data_file: str | None = None,
) -> tuple[str, str, str, str]:
    """One document of a task: its id, context, question and answer.

    A generator that has no ``build_sample`` makes all documents up to this one.

    Raises:
        ValueError: The generator cannot make it.
    """
    module = generator(task)
    where = {"split": split, "context_tokens": context_tokens, "seed": seed}
    if hasattr(module, "build_sample"):
        made = module.build_sample(
            tokenizer, task=task, index=index, text=text, data_file=data_file, **where
        )
        return made.id, made.context, made.question, made.answer
    metadata = task_definition(task)["metadata"]
    fields = {**metadata, **where, "num_samples": index + 1, "tokenizer": tokenizer}
    row = module.load(**fields)["test"][index]
    return row["id"], row["context"], row["question"], row["answer"]


def task_version(task: str, haystack: str | None = None, data_file: str | None = None) -> str:
    """Version of a task's samples; a user's texts are a part of it, by the start of their hash.

    Raises:
        UsageError: The texts cannot be read.
    """
    version = str(task_definition(task)["metadata"]["version"])
    if task in ruler.TASKS:
        return version
    module = generator(task)
    if not hasattr(module, "own_mark"):
        return version
    try:
        mark = module.own_mark(task, haystack, data_file)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return f"{version}+{mark}" if mark else version


def num_available(task: str, data_file: str | None) -> int:
    """How many samples there can be of a task: the lines of a user's file, lm-eval's documents.

    There is no end to those of other tasks.

    Raises:
        UsageError: The file cannot be read.
    """
    if task in ruler.TASKS:
        return ruler.NUM_DOCUMENTS
    if task != OWN_DATA:
        return sys.maxsize
    try:
        return int(generator(task).own_count(data_file))
    except ValueError as error:
        raise UsageError(str(error)) from error


def line_without_donor(data_file: str | None, count: int | None) -> int | None:
    """The first line of a user's file that no other of the first ``count`` could lend its gists.

    Raises:
        UsageError: The file cannot be read.
    """
    try:
        found: int | None = generator(OWN_DATA).own_line_alone(data_file, count)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return found


def held_out_prose(path: Path | None = None) -> str:
    """Prose that no training sees: the shipped test split, or a user's own text.

    Raises:
        UsageError: The path cannot be read as text.
    """
    module = _module("prose")
    try:
        found = module.shipped("test") if path is None else module.of_path(path)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return "".join(found.units)


def language(task: str) -> str:
    """Language of a task's documents and question."""
    return str(task_definition(task)["metadata"]["language"])


def stop_strings(task: str) -> tuple[str, ...]:
    """What ends an answer of the task."""
    return tuple(task_definition(task)["generation_kwargs"]["until"])


@cache
def _module(name: str) -> ModuleType:
    qualified = f"gistbench_tasks_{name}"
    spec = importlib.util.spec_from_file_location(qualified, tasks_folder() / f"{name}.py")
    if spec is None or spec.loader is None:
        raise UsageError(f"the tasks folder has no generator {name}.py; reinstall gistbench")
    module = importlib.util.module_from_spec(spec)
    sys.modules[qualified] = module
    spec.loader.exec_module(module)
    return module
