"""A job's tasks of RULER's, and the first prompts of its first task: for warm-up and holding."""

from __future__ import annotations

import hashlib
from typing import Any

from gistbench import generators, ruler
from gistbench.arms.base import Prompt
from gistbench.bench.job import Job
from gistbench.bench.loaded import Loaded
from gistbench.errors import TooLongError, UsageError
from gistbench.evaluation.documents import load_ruler, own_fields
from gistbench.evaluation.lm import with_donors
from gistbench.models.prompts import split_prompt

RulerTasks = dict[str, Any]
"""Name -> lm-eval's task, its documents made."""


def ruler_tasks(job: Job, loaded: Loaded) -> RulerTasks:
    """Make the documents of the job's RULER tasks: all of them, or outside an evaluation the first.

    Raises:
        UsageError: The documents cannot be made, or lm-eval makes fewer than the samples.
        PrerequisiteError: What they are made from is not here.
    """
    needed = job.tasks if job.mode in ("evaluate", "answer") else job.tasks[:1]
    found = {}
    for name in needed:
        if name not in ruler.TASKS:
            continue
        found[name] = load_ruler(
            name,
            tokenizer_folder=loaded.engine.base.folder,
            max_tokens=job.context_tokens,
            seed=job.seed,
            trust_remote_code=job.trust_remote_code,
        )
        made = len(found[name].eval_docs)
        if made < job.samples:
            raise UsageError(
                f"lm-eval made {made} documents of task {name} at --context-tokens "
                f"{job.context_tokens:,}, fewer than --samples {job.samples}; pass --samples "
                f"{made} or less"
            )
    return found


def first_prompts(job: Job, loaded: Loaded, tasks: RulerTasks, count: int) -> list[Prompt]:
    """The first prompts of the first task, outside lm-eval; of one length unless a user's own."""
    task = job.tasks[0]
    own = task == generators.OWN_DATA
    # Four, so that each has a donor, also where two samples share a document or one hides nothing;
    # of own data all, since any number of lines may have one answer.
    wanted = max(4, count)
    number = generators.num_available(task, job.data_file) if own else wanted
    fields = (
        ruler_fields(tasks[task], task, number)
        if task in tasks
        else [_sample_fields(job, loaded, task, index) for index in range(number)]
    )
    prompts = []
    for doc in fields:
        digest = hashlib.sha256((doc["context"] + doc["question"]).encode()).hexdigest()
        tokens = split_prompt(loaded.engine.base.tokenizer, doc["context"], doc["question"])
        values = tuple(doc.get("values", ()))
        prompts.append(Prompt(doc["id"], digest, doc["answer"], tokens, values=values))
    found = with_donors(prompts)[:wanted]
    if own:  # whose lines are checked one by one, and named
        return found
    _require_room(job, loaded, prompts[0].tokens)
    length = len(prompts[0].tokens.context)
    return [prompt for prompt in found if len(prompt.tokens.context) == length]


def ruler_fields(task: Any, name: str, number: int) -> list[dict[str, Any]]:
    """The first documents of lm-eval's task in gistbench's fields."""
    task.set_config(key="num_fewshot", value=0)  # as lm-eval does when it begins
    task.build_all_requests(limit=number)
    return [own_fields(name, item.doc, item.args[0]) for item in task.instances]


def shortest_own_tokens(job: Job, loaded: Loaded) -> int | None:
    """Tokens of the shortest context of a user's own questions; None where none are asked."""
    if generators.OWN_DATA not in job.tasks:
        return None
    lengths = []
    for index in range(job.samples):
        made = _sample_fields(job, loaded, generators.OWN_DATA, index)
        tokens = split_prompt(loaded.engine.base.tokenizer, made["context"], made["question"])
        lengths.append(len(tokens.context))
    return min(lengths)


def _sample_fields(job: Job, loaded: Loaded, task: str, index: int) -> dict[str, Any]:
    try:
        name, context, question, answer = generators.build_document(
            task,
            loaded.engine.base.tokenizer,
            split=job.split,
            context_tokens=job.context_tokens,
            index=index,
            seed=job.seed,
            text=job.haystack,
            data_file=job.data_file,
        )
    except ValueError as error:
        own = task == generators.OWN_DATA
        raise UsageError(f"{'' if own else '--context-tokens: '}{error}") from error
    return {"id": name, "context": context, "question": question, "answer": answer}


def _require_room(job: Job, loaded: Loaded, tokens: Any) -> None:
    num_gists = len(loaded.engine.reader.gist_ids)
    generated = max(
        int(generators.task_definition(task)["generation_kwargs"].get("max_gen_toks", 32))
        for task in job.tasks
    )
    beside = num_gists + len(tokens.question) + generated
    if len(tokens.context) + beside > loaded.engine.base.max_positions:
        raise TooLongError(
            f"--context-tokens {job.context_tokens:,} with {beside} tokens of gists, question and "
            f"answer exceeds the {loaded.engine.base.max_positions:,} positions of {job.base}; "
            f"pass --context-tokens {loaded.engine.base.max_positions - beside} or less"
        )
