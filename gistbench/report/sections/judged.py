"""What a judge model said of a run, beside the exact scores and never in their place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from gistbench.judgements import Judgement
from gistbench.records import SampleRecord
from gistbench.report.card import Judged, JudgedRow
from gistbench.report.evidence import Evidence
from gistbench.report.sections.figures import absent, rate_figure

Pair = tuple[bool, bool | None]
"""Exactly right; right to the judge, None where its reply gave no verdict."""


def judged(evidence: Evidence, judgements: Sequence[Judgement]) -> tuple[Judged, ...]:
    """One summary per judge model; none where nothing was judged.

    Judgements of outputs that the run does not hold are left out.
    """
    models = dict.fromkeys(judgement.model for judgement in judgements)
    return tuple(
        _summary(model, evidence, [j for j in judgements if j.model == model]) for model in models
    )


def _summary(model: str, evidence: Evidence, judgements: Sequence[Judgement]) -> Judged:
    answers = {
        (j.arm, j.task, j.sample_id, j.output_sha256): j for j in judgements if j.kind == "answer"
    }
    groups: dict[str, list[Pair]] = {}
    for (arm, cell), samples in evidence.groups.items():
        pairs = list(_pairs(samples, answers))
        if pairs:
            groups[f"{arm}, {evidence.label_of(cell)}"] = pairs
    rows = [_row(label, pairs) for label, pairs in groups.items()]
    if len(rows) > 1:
        rows.append(_row("all", [pair for pairs in groups.values() for pair in pairs]))
    # The last one asked: the criteria may have been judged before all samples were there.
    overall = next((j for j in reversed(judgements) if j.kind == "overall"), None)
    if overall is None:
        score = "the judge was not asked yet"
    elif overall.score is None:
        score = "no verdict: the judge's reply had another shape"
    else:
        score = f"{overall.score:g} of 100"
    return Judged(
        model=model,
        rows=tuple(rows),
        score=score,
        sentence=overall.sentence if overall else "",
    )


def _pairs(
    samples: Iterable[SampleRecord], answers: dict[tuple[str, str, str, str], Judgement]
) -> Iterable[Pair]:
    for sample in samples:
        digest = hashlib.sha256(sample.output.encode()).hexdigest()
        found = answers.get((sample.arm, sample.task, sample.sample_id, digest))
        if found is not None:
            right = None if found.verdict is None else found.verdict == "right"
            yield sample.scores["exact_match"] == 1, right


def _row(label: str, pairs: Sequence[Pair]) -> JudgedRow:
    decided = [(exact, right) for exact, right in pairs if right is not None]
    agreed = sum(exact == right for exact, right in decided)
    return JudgedRow(
        label=label,
        both_right=sum(exact and right for exact, right in decided),
        only_exact=sum(exact and not right for exact, right in decided),
        only_judge=sum(right and not exact for exact, right in decided),
        both_wrong=sum(not exact and not right for exact, right in decided),
        no_verdict=len(pairs) - len(decided),
        agreement=rate_figure(agreed, len(decided))
        if decided
        else absent("the judge gave no verdict"),
    )
