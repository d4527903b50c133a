"""Arms as an lm-eval model: tasks, prompts and scoring stay lm-eval's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from gistbench.arms.base import Prompt
from gistbench.errors import UsageError
from gistbench.evaluation.answers import AnswerFile, answer_key
from gistbench.evaluation.documents import own_fields
from gistbench.evaluation.engine import Engine, Response
from gistbench.models.prompts import PromptTokens, split_prompts
from gistbench.records import NotMeasured

TOKENISE_AT_ONCE = 64

Progress = Callable[[str, int, int, bool], None]
"""Called as (task, done, total, resumed) after each batch; done counts this process's samples."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """One of several processes that answer the same batches, every n-th each.

    Attributes:
        process: Number of this one.
        processes: All of them.
        meet: Called when this one has answered its batches; returns when all have.
    """

    process: int
    processes: int
    meet: Callable[[], None]


class ArmLM(LM):
    """One arm, answering lm-eval's ``generate_until`` requests.

    A task's documents carry ``context`` and ``question``, or are of a task whose seam is known
    (`gistbench.ruler`); the prompt is exactly both joined. Only greedy decoding is offered:
    sampling would add noise that no arm is responsible for.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        batch_size: int,
        identity: dict[str, Any],
        answers: AnswerFile | None = None,
        progress: Progress | None = None,
        untimed: NotMeasured | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        super().__init__()
        self.engine = engine
        self.batch_size = batch_size
        self.identity = identity
        self.answers = answers
        self.progress = progress
        self.untimed = untimed
        self.sharing = sharing
        self.responses: dict[str, Response] = {}

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answer every request; batches are fixed groups, so that resuming changes no answer.

        Where processes share the work, this one answers its own batches and finds the others' in
        their files: what is returned is the same.
        """
        answered: dict[str, list[Response]] = {}
        batches: list[tuple[list[int], str]] = []
        for task in dict.fromkeys(request.task_name for request in requests):
            members = [place for place, item in enumerate(requests) if item.task_name == task]
            prompts = with_donors(self._prompts([requests[place] for place in members]))
            if self.engine.arm.name == "swapped":
                _require_donors(prompts, str(task))
            done = 0
            for group in _batches(prompts, self.batch_size):
                until, max_new_tokens = _generation(requests[members[group.start]])
                key = self._key(prompts[group], until, max_new_tokens)
                batches.append((members[group], key))
                if self.sharing and (len(batches) - 1) % self.sharing.processes != (
                    self.sharing.process
                ):
                    continue
                answered[key], resumed = self._answer(key, prompts[group], until, max_new_tokens)
                done += len(prompts[group])
                if self.progress is not None:
                    self.progress(str(task), done, len(members), resumed)
        if self.sharing is not None and self.answers is not None:
            self.sharing.meet()
            self.answers.read_beside()
        outputs: dict[int, str] = {}
        for places, key in batches:
            found = answered.get(key) or (self.answers and self.answers.get(key))
            if not found:
                raise RuntimeError("a process that shared the work left a batch unanswered")
            for place, response in zip(places, found, strict=True):
                outputs[place] = response.output
                self.responses[response.prompt_sha256] = response
        return [outputs[place] for place in range(len(requests))]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not offered: gist arms are scored by what they write.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            "gistbench arms answer generate_until tasks only; choose a task of that output type"
        )

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Not offered.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            "gistbench arms answer generate_until tasks only; choose a task of that output type"
        )

    def _prompts(self, requests: Sequence[Instance]) -> list[Prompt]:
        docs = [own_fields(str(item.task_name), item.doc, item.args[0]) for item in requests]
        prompts = []
        for first in range(0, len(requests), TOKENISE_AT_ONCE):
            group = slice(first, first + TOKENISE_AT_ONCE)
            texts = [(doc["context"], doc["question"]) for doc in docs[group]]
            try:
                tokens = split_prompts(self.engine.base.tokenizer, texts)
            except ValueError as error:
                name = requests[first].task_name
                raise UsageError(f"task {name} with this tokenizer: {error}") from error
            answered = zip(requests[group], docs[group], tokens, strict=True)
            prompts += [self._prompt(*each) for each in answered]
        return prompts

    def _prompt(self, request: Instance, doc: dict[str, Any], tokens: PromptTokens) -> Prompt:
        expected = doc.get("context_tokens")
        if expected is not None and len(tokens.context) != expected:
            raise UsageError(
                f"sample {doc.get('id')} has {len(tokens.context)} context tokens here, not "
                f"{expected}: it was made for another tokenizer; generate it for this model"
            )
        num_gists = len(self.engine.reader.gist_ids)
        _, max_new_tokens = _generation(request)
        needed = len(tokens.context) + num_gists + len(tokens.question) + max_new_tokens
        if needed > self.engine.base.max_positions:
            room = self.engine.base.max_positions - (needed - len(tokens.context))
            if doc.get("num_needles", 0) is None:
                raise UsageError(
                    f"{doc['id']} needs {needed:,} positions with gists, question and answer, the "
                    f"model has {self.engine.base.max_positions:,}; shorten its context of "
                    f"{len(tokens.context):,} tokens to {room:,} or leave it out"
                )
            raise UsageError(
                f"{len(tokens.context):,} context tokens need {needed:,} positions with gists, "
                f"question and answer, the model has {self.engine.base.max_positions:,}; pass "
                f"--context-tokens {room} or less"
            )
        prompt_hash = hashlib.sha256(request.args[0].encode()).hexdigest()
        return Prompt(
            str(doc.get("id", prompt_hash[:12])),
            prompt_hash,
            str(doc["answer"]),
            tokens,
            holds_answer=doc.get("num_needles") != 0,
            context_text=doc["context"],
            choices=tuple(doc.get("choices") or ()),
            counted=doc.get("num_needles", 0) is not None,
            values=tuple(doc.get("values", ())),
        )

    def _key(self, prompts: Sequence[Prompt], until: tuple[str, ...], max_new_tokens: int) -> str:
        settings = {**self.identity, "until": until, "max_new_tokens": max_new_tokens}
        if self.engine.arm.name == "swapped":
            settings["donors"] = [prompt.donor.sha256 if prompt.donor else "" for prompt in prompts]
        return answer_key(settings, [prompt.sha256 for prompt in prompts])

    def _answer(
        self, key: str, prompts: Sequence[Prompt], until: tuple[str, ...], max_new_tokens: int
    ) -> tuple[list[Response], bool]:
        kept = self.answers.get(key) if self.answers is not None else None
        if kept is not None:
            return kept, True
        responses = self.engine.respond(prompts, until=until, max_new_tokens=max_new_tokens)
        if self.untimed is not None:  # kept with the answers, whoever goes on with them
            responses = [r.model_copy(update={"timing": self.untimed}) for r in responses]
        if self.answers is not None:
            self.answers.put(key, responses)
        return responses, False


def _batches(prompts: Sequence[Prompt], size: int) -> list[slice]:
    """Fixed groups of the given size; larger where the questions to one context would be parted."""
    groups: list[slice] = []
    first = 0
    while first < len(prompts):
        end = min(first + size, len(prompts))
        while end < len(prompts) and _same_context(prompts[end - 1], prompts[end]):
            end += 1
        groups.append(slice(first, end))
        first = end
    return groups


def _same_context(one: Prompt, other: Prompt) -> bool:
    return one.tokens.context == other.tokens.context


def with_donors(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Give each prompt the next sample whose document answers otherwise, going round at the end.

    A donor is another document (several questions may be put to one) that does not hold this
    prompt's answer anywhere, and states an answer of its own: the gists of a document that hides
    nothing would be no test of where answers come from. Where the question names its answers, the
    donor's is another of them: whoever follows the gists is then wrong, and whoever guesses no
    better off. Nobody knows what a user's own documents state: there another answer is enough,
    though a donor that does not hold this one goes before.
    """

    def may_give(other: Prompt, prompt: Prompt) -> bool:
        return (
            other.holds_answer
            and other.answer != prompt.answer
            and other.tokens.context != prompt.tokens.context
            and (not prompt.choices or other.answer in prompt.choices)
        )

    def holds(other: Prompt, prompt: Prompt) -> bool:
        return prompt.holds_answer and any(part in other.context_text for part in prompt.states)

    given = []
    for place, prompt in enumerate(prompts):
        others = [prompts[(place + step) % len(prompts)] for step in range(1, len(prompts))]
        # Best one that was asked the same: its own answer is what its gists would give away.
        alike = (other for other in others if other.tokens.question == prompt.tokens.question)
        # Chained lazily: texts are searched only until a donor is found.
        able = (other for other in chain(alike, others) if may_give(other, prompt))
        donor = next((other for other in able if not holds(other, prompt)), None)
        if donor is None and not prompt.counted:
            donor = next((other for other in others if may_give(other, prompt)), None)
        given.append(replace(prompt, donor=donor))
    return given


def _require_donors(prompts: Sequence[Prompt], task: str) -> None:
    alone = [prompt.sample_id for prompt in prompts if prompt.donor is None]
    if alone:
        own = not prompts[0].counted
        step = "add lines with another context and answer" if own else "pass --samples 4 or more"
        raise UsageError(
            f"{alone[0]} finds no other document with another answer among the {len(prompts)} "
            f"samples of {task}, which the swapped control needs; {step}"
        )


def _generation(request: Instance) -> tuple[tuple[str, ...], int]:
    options = dict(request.args[1])
    if options.get("do_sample") or options.get("temperature", 0.0):
        raise UsageError(
            f"task {request.task_name} asks for sampling; gistbench decodes greedily in every arm: "
            "set do_sample: false and temperature: 0"
        )
    until = options.get("until") or ()
    stops = (until,) if isinstance(until, str) else tuple(until)
    return stops, int(options.get("max_gen_toks", 32))
