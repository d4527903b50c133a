"""What a run is held to whatever its numbers were before: controls, criteria, claims."""

from __future__ import annotations

from collections.abc import Sequence

from gistbench.errors import UsageError, did_you_mean
from gistbench.gate.accuracy import count_outcomes
from gistbench.gate.alike import CellPair
from gistbench.gate.baseline import Baseline
from gistbench.gate.findings import NOT_MEASURED, Finding, Verdict
from gistbench.gate.policy import Claim, ControlsPolicy, Policy
from gistbench.records import NotMeasured
from gistbench.report.card import Outcome
from gistbench.report.controls import CONTROLS, ControlFinding, control_findings
from gistbench.report.criteria import CriteriaBlock, Criterion, load_criteria
from gistbench.report.evidence import Cell, Evidence
from gistbench.report.measures import measure
from gistbench.report.statistics import holm, mcnemar_one_sided
from gistbench.report.verdicts import judge, judge_run

_KEPT_VERDICTS: dict[Outcome, Verdict] = {
    "PASS": "pass",
    "FAIL": "regression",
    "INCONCLUSIVE": "inconclusive",
    "NOT_MEASURED": "refused",
}
_CLAIM_VERDICTS: dict[Outcome, Verdict] = {
    "PASS": "pass",
    "FAIL": "regression",
    "INCONCLUSIVE": "inconclusive",
    "NOT_MEASURED": "inconclusive",
}


def leak_findings(
    evidence: Evidence, pairs: Sequence[CellPair], policy: ControlsPolicy
) -> list[Finding]:
    """The two controls, over all tasks: answers that come from elsewhere are a regression.

    What the scorecard calls a leak never passes. A control that guesses is called one by chance now
    and then; so where the baseline's control answered the same prompts, a regression needs it to
    have become better by McNemar's test over all control cells together.
    """
    better = _better_controls(evidence, pairs)
    found = []
    for control in CONTROLS:
        results = [result for result in control_findings(evidence) if result.control == control]
        if not results:
            continue
        leaks = [r for r in results if r.verdict.status == "INVALID-LEAK"]
        shown = [r for r in leaks if better.get((control, r.label), 0.0) <= policy.alpha]
        broken = [r for r in results if r.verdict.status not in ("OK", "INVALID-LEAK")]
        verdict: Verdict = "pass"
        text = f"no leak seen on {len(results)} task{'s'[: len(results) > 1]}"
        if shown:
            verdict, text = "regression", _told(shown)
        elif broken:
            verdict, text = "refused", _told(broken)
        elif leaks:
            verdict = "inconclusive"
            text = f"{_told(leaks)}; but not shown to be better than the baseline's control"
        found.append(Finding(check="controls", subject=control, verdict=verdict, text=text))
    return found


def _better_controls(evidence: Evidence, pairs: Sequence[CellPair]) -> dict[tuple[str, str], float]:
    """(control, task as it is called) -> p value, by Holm, that the control has become better."""
    places, own = [], []
    for before, after, arms in pairs:
        label = evidence.label_of(Cell(after.task, after.context_tokens))
        for control in CONTROLS:
            if control in arms:
                counted = count_outcomes(before.right(control), after.right(control))
                places.append((control, label))
                own.append(mcnemar_one_sided(counted.gained, counted.lost))
    return dict(zip(places, holm(own), strict=True))


def _told(results: Sequence[ControlFinding]) -> str:
    return "; ".join(f"{found.label}: {found.verdict.text}" for found in results)


def criterion_findings(baseline: Baseline, evidence: Evidence, policy: Policy) -> list[Finding]:
    """Criteria of CONCEPT.md that the baseline met: they must be met still, at the same grade."""
    if not policy.criteria.keep:
        return []
    block = load_criteria()
    found = []
    for now in judge_run(block, evidence):
        then = baseline.criteria.get(now.id)
        if then is None or then.outcome != "PASS":
            continue
        verdict = _KEPT_VERDICTS[now.outcome]
        if verdict == "pass" and _rank(block[now.id], now.grade) > _rank(block[now.id], then.grade):
            verdict = "regression"
        found.append(
            Finding(
                check="criteria",
                subject=now.id,
                verdict=verdict,
                text=f"{now.target}: {now.reason}",
                before=_outcome_text(then.outcome, then.grade),
                after=f"{now.value_text}, {now.outcome_text}",
                n_needed=now.n_needed,
                counted="observations" if now.n_needed else "",
            )
        )
    return found


def claim_findings(evidence: Evidence, policy: Policy, where: str) -> list[Finding]:
    """The claims of a policy, each with the measure of its criterion and a bound of its own.

    Raises:
        UsageError: A claim names no criterion.
    """
    block = load_criteria()
    return [
        _claim_finding(claim, _criterion(claim, block, where), evidence) for claim in policy.claims
    ]


def _criterion(claim: Claim, block: CriteriaBlock, where: str) -> Criterion:
    known = {criterion.id: criterion for criterion in block.criteria}
    if claim.criterion not in known:
        raise UsageError(
            f"{where}: claim {claim.id} names no criterion of CONCEPT.md with "
            f"{claim.criterion!r}, {did_you_mean(claim.criterion, known)}"
        )
    threshold = claim.threshold
    return known[claim.criterion].model_copy(
        update={
            "title": claim.title,
            "thresholds": (threshold,),
            "direction": threshold.direction,
        }
    )


def _claim_finding(claim: Claim, criterion: Criterion, evidence: Evidence) -> Finding:
    measured = measure(criterion, evidence)
    verdict = judge(criterion, measured)
    words = {"PASS": "met", "FAIL": "not met"}.get(verdict.outcome, verdict.outcome_text.lower())
    text = f"{words}: {verdict.reason}"
    if claim.note:
        text += f" ({claim.note})"
    absent = isinstance(measured, NotMeasured) or verdict.value is None
    return Finding(
        check="claims",
        subject=claim.title,
        verdict=_CLAIM_VERDICTS[verdict.outcome],
        text=text,
        before=criterion.target_text(),
        after=NOT_MEASURED if absent else f"{verdict.value_text} ({verdict.interval_text})",
        n_needed=verdict.n_needed,
        counted="observations" if verdict.n_needed else "",
    )


def _rank(criterion: Criterion, grade: str | None) -> int:
    grades = [threshold.grade for threshold in criterion.thresholds]
    return grades.index(grade) if grade in grades else len(grades)


def _outcome_text(outcome: Outcome, grade: str | None) -> str:
    return outcome if grade in (None, "target") else f"{outcome} ({grade})"
