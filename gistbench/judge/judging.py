"""`gistbench judge`: every answer of a run read again by a model, then the run as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from gistbench.errors import GistbenchError
from gistbench.judge import prompts
from gistbench.judgements import JUDGE_FILE, Judgement, JudgementFile, question_key
from gistbench.records import SampleRecord
from gistbench.report.criteria import load_criteria
from gistbench.report.evidence import Evidence, load_evidence
from gistbench.report.verdicts import judge_run as measured_verdicts

Progress = Callable[[int, int], None]
"""Called as (done, total) after each question."""

Questions = Callable[[SampleRecord], str]
"""The question that a sample was asked."""


class Judge(Protocol):
    """Whoever can be asked."""

    model: str

    def ask(self, system: str, prompt: str) -> str:
        """The reply to two messages."""


def judge_run(
    run_dir: Path,
    judge: Judge,
    questions: Questions,
    *,
    limit: int | None = None,
    progress: Progress = lambda done, total: None,
) -> None:
    """Ask a judge what has not been asked yet, and keep every prompt and reply in `judge.jsonl`.

    Args:
        run_dir: What `gistbench run` wrote. Its records are read and never changed.
        judge: Asked about each answer, and last about the run's criteria.
        questions: Gives the question of samples whose record does not hold it.
        limit: First samples of each arm and task that are judged; None: all.
        progress: Told of every question that is answered.

    Raises:
        GistbenchError: The judge cannot be asked any more. What it said so far is kept, and the
            same command goes on from there.
    """
    evidence = load_evidence(run_dir)
    file = JudgementFile(run_dir / JUDGE_FILE)
    chosen = list(_chosen(evidence, limit))
    total = len(chosen) + 1
    done = 0
    try:
        for done, sample in enumerate(chosen):
            question = sample.question if sample.question is not None else questions(sample)
            prompt = prompts.answer_prompt(question, sample.expected, sample.output)
            _judge_answer(file, judge, sample, prompt)
            progress(done + 1, total)
        done = len(chosen)
        verdicts = measured_verdicts(load_criteria(), evidence)
        _judge_run(file, judge, prompts.overall_prompt(verdicts))
        progress(total, total)
    except GistbenchError as error:
        raise type(error)(
            f"{error}; {done:,} of {total:,} judgements are kept in {file.path}, and the same "
            "`gistbench judge` goes on from there"
        ) from error


def _chosen(evidence: Evidence, limit: int | None) -> Iterator[SampleRecord]:
    for samples in evidence.groups.values():
        yield from samples[:limit]


def _judge_answer(file: JudgementFile, judge: Judge, sample: SampleRecord, prompt: str) -> None:
    system = prompts.ANSWER_SYSTEM
    place = (sample.arm, sample.task, sample.sample_id)
    if question_key("answer", judge.model, *place, system, prompt) in file:
        return
    reply = judge.ask(system, prompt)
    file.add(
        Judgement(
            kind="answer",
            model=judge.model,
            arm=sample.arm,
            task=sample.task,
            sample_id=sample.sample_id,
            output_sha256=hashlib.sha256(sample.output.encode()).hexdigest(),
            system=system,
            prompt=prompt,
            reply=reply,
            verdict=prompts.read_verdict(reply),
        )
    )


def _judge_run(file: JudgementFile, judge: Judge, prompt: str) -> None:
    system = prompts.OVERALL_SYSTEM
    if question_key("overall", judge.model, "", "", "", system, prompt) in file:
        return
    reply = judge.ask(system, prompt)
    score, sentence = prompts.read_score(reply)
    file.add(
        Judgement(
            kind="overall",
            model=judge.model,
            system=system,
            prompt=prompt,
            reply=reply,
            score=score,
            sentence=sentence,
        )
    )
