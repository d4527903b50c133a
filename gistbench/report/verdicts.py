"""From measurements to verdicts, and from verdicts to the score.

The rule, from CONCEPT.md: a criterion passes only if its whole interval meets the target, fails
only if none of it does, and is inconclusive otherwise. Only a pass earns points; nothing is
rescaled.
"""

from __future__ import annotations

from collections.abc import Sequence

from gistbench.records import NotMeasured
from gistbench.report.card import Outcome, Score, Verdict
from gistbench.report.criteria import CriteriaBlock, Criterion, Threshold
from gistbench.report.evidence import Evidence
from gistbench.report.measured import Measurement
from gistbench.report.measures import measure, memory_context
from gistbench.report.statistics import Estimate

OUTCOME_TEXT: dict[Outcome, str] = {
    "PASS": "PASS",
    "FAIL": "FAIL",
    "INCONCLUSIVE": "INCONCLUSIVE",
    "NOT_MEASURED": "NOT MEASURED",
}


def judge_run(block: CriteriaBlock, evidence: Evidence) -> tuple[Verdict, ...]:
    """One verdict per criterion, in the order of the block."""
    verdicts = []
    for criterion in block.criteria:
        found = measure(criterion, evidence)
        verdict = judge(criterion, found)
        beside = () if isinstance(found, NotMeasured) else found.beside
        if criterion.id == "vram":
            beside = memory_context(evidence)
        if beside:
            verdict = verdict.model_copy(update={"beside": beside})
        verdicts.append(verdict)
    return tuple(verdicts)


def judge(criterion: Criterion, found: Measurement | NotMeasured) -> Verdict:
    """Compare one measurement with its criterion."""
    if isinstance(found, NotMeasured):
        return _verdict(criterion, "NOT_MEASURED", found.not_measured)
    estimate = found.estimate
    if estimate is None:
        return _verdict(
            criterion,
            "INCONCLUSIVE",
            f"{found.evidence}; a single observation has no interval",
            n_needed=2,
        )
    sides = [compare(threshold, estimate) for threshold in criterion.thresholds]
    if "PASS" in sides:
        best = sides.index("PASS")
        outcome: Outcome = "PASS"
        reason = found.evidence
        grade: Threshold | None = criterion.thresholds[best]
        if "INCONCLUSIVE" in sides[:best]:
            reason += f"; {criterion.thresholds[best - 1].grade} is not decided"
    else:
        outcome, grade, reason = sides[-1], None, found.evidence
    needed = None
    if found.blocked and outcome != "FAIL":
        outcome, grade, reason = "NOT_MEASURED", None, f"{found.evidence}, but {found.blocked}"
    elif outcome == "INCONCLUSIVE":
        needed = found.needed(criterion.thresholds[-1].value)
        reason = f"{found.evidence}; {_what_would_decide(criterion, found, needed)}"
    return _verdict(criterion, outcome, reason, found, estimate, grade, needed)


def compare(threshold: Threshold, estimate: Estimate) -> Outcome:
    """Where a whole interval stands to one bound: PASS, FAIL or INCONCLUSIVE."""
    met = [threshold.meets(end) for end in (estimate.low, estimate.high)]
    if all(met):
        return "PASS"
    return "INCONCLUSIVE" if any(met) else "FAIL"


def score(verdicts: Sequence[Verdict]) -> Score:
    """Add up the points: a plain sum."""
    earned = sum(verdict.earned for verdict in verdicts)
    out_of = sum(verdict.weight for verdict in verdicts)
    decided = sum(verdict.outcome in ("PASS", "FAIL") for verdict in verdicts)
    parts = []
    for outcome, words in (("INCONCLUSIVE", "inconclusive"), ("NOT_MEASURED", "not measured")):
        count = sum(verdict.outcome == outcome for verdict in verdicts)
        if count:
            parts.append(f"{count} {words}")
    rest = f" ({', '.join(parts)}, earning 0)" if parts else ""
    return Score(
        earned=earned,
        out_of=out_of,
        text=f"{earned:g} of {out_of:g}",
        arithmetic=" + ".join(f"{verdict.earned:g}" for verdict in verdicts) + f" = {earned:g}",
        decided=decided,
        num_criteria=len(verdicts),
        measurable=f"{decided} of {len(verdicts)} measurable{rest}",
    )


def _what_would_decide(criterion: Criterion, found: Measurement, needed: int | None) -> str:
    bound = criterion.format_bound(criterion.thresholds[-1].value)
    if needed is None:
        return f"the observed value is the bound itself, {bound}: no n decides"
    return (
        f"the interval has {bound} within it; about {needed:,} {found.counted} would decide "
        "if the observed rate stays"
    )


def _verdict(
    criterion: Criterion,
    outcome: Outcome,
    reason: str,
    found: Measurement | None = None,
    estimate: Estimate | None = None,
    grade: Threshold | None = None,
    n_needed: int | None = None,
) -> Verdict:
    share = grade.share if grade else 0.0
    earned = criterion.weight * share
    named = grade is not None and grade.grade != "target"
    suffix = f" ({grade.grade})" if grade is not None and named else ""
    return Verdict(
        id=criterion.id,
        title=criterion.title,
        metric=criterion.metric,
        target=criterion.target_text(),
        seed_claim=criterion.seed_claim,
        weight=criterion.weight,
        outcome=outcome,
        outcome_text=OUTCOME_TEXT[outcome] + suffix,
        value=estimate.value if estimate else None,
        low=estimate.low if estimate else None,
        high=estimate.high if estimate else None,
        n=estimate.n if estimate else None,
        n_needed=n_needed,
        value_text=criterion.format(estimate.value) if estimate else "-",
        interval_text=_interval(criterion, found, estimate) if found and estimate else "",
        reason=reason,
        grade=grade.grade if grade else None,
        earned=earned,
        arithmetic=f"{criterion.weight:g} x {share:g} = {earned:g}"
        if grade
        else f"0 of {criterion.weight:g}",
    )


def _interval(criterion: Criterion, found: Measurement, estimate: Estimate) -> str:
    if found.counted == "exact reading":
        return "read exactly, n = 1"
    low, high = criterion.format(estimate.low), criterion.format(estimate.high)
    return f"{low} to {high}, n = {estimate.n:,} {found.counted}"
