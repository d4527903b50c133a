"""What a run with a user's own haystack or questions may ask for."""

from __future__ import annotations

from gistbench import generators
from gistbench.config import RunConfig
from gistbench.errors import UsageError


def with_own_texts(config: RunConfig) -> RunConfig:
    """The configuration with its task groups expanded, and its own texts settled.

    A data file makes ``own_jsonl`` the task where none is named, and its lines the samples where
    no number is given.

    Raises:
        UsageError: A task is unknown, the texts cannot be read, or no task would use them.
    """
    tasks = config.tasks
    if config.data_file is not None and "tasks" not in config.model_fields_set:
        tasks = (generators.OWN_DATA,)
    tasks = generators.expand(tasks)
    samples = config.samples
    if generators.OWN_DATA in tasks:
        lines = generators.num_available(generators.OWN_DATA, config.data_file)
        if config.time_budget_seconds is not None:
            raise UsageError(
                "--time-budget-seconds chooses among samples that are alike, and the lines of "
                f"{config.data_file} are not; pass --samples instead"
            )
        if samples is not None and samples > lines:
            raise UsageError(
                f"--samples {samples} asks for more than the {lines} lines of "
                f"{config.data_file}; pass --samples {lines} or less"
            )
        samples = samples or lines
    elif config.data_file is not None:
        raise UsageError(
            f"--data-file is read by the task {generators.OWN_DATA} alone; add it to --tasks"
        )
    marks = {generators.task_version(task, config.haystack, config.data_file) for task in tasks}
    if config.haystack is not None and not any("+haystack-" in mark for mark in marks):
        raise UsageError(
            f"--haystack changes no document of {', '.join(tasks)}; add a niah task to --tasks"
        )
    return config.model_copy(update={"tasks": tasks, "samples": samples})


def require_donors(config: RunConfig) -> None:
    """Refuse questions that leave the swapped control no gists to swap in, before any work.

    Raises:
        UsageError: Names the first line without another context that has another answer.
    """
    if generators.OWN_DATA not in config.tasks:
        return
    alone = generators.line_without_donor(config.data_file, config.samples)
    if alone is not None:
        raise UsageError(
            f"{config.data_file} line {alone} finds no other line with another context and "
            "another answer, whose gists the swapped control could use; add one (questions to "
            "one document alone show no leak), or leave the arm gist out"
        )
