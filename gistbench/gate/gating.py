"""`gistbench gate`: a run, a baseline and a policy become findings, and these a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gistbench.errors import UsageError
from gistbench.gate.accuracy import JudgedCell, count_outcomes, judge_cells
from gistbench.gate.alike import CellPair, compared_cells, differences
from gistbench.gate.baseline import Baseline, read_baseline
from gistbench.gate.costs import cache_findings, memory_findings, weight_findings
from gistbench.gate.findings import EXIT_CODES, SEVERITY, Finding, GateReport, verdict_of
from gistbench.gate.policy import AccuracyPolicy, Policy, load_policy
from gistbench.gate.standards import claim_findings, criterion_findings, leak_findings
from gistbench.gate.taking import take
from gistbench.gate.times import time_findings
from gistbench.report.controls import CONTROLS

DEFAULT_POLICY = "the default policy"


def gate(
    run_dir: Path,
    baseline_path: Path | None,
    policy_path: Path | None = None,
    repeats: Sequence[Path] = (),
) -> GateReport:
    """Judge a run against a baseline, or by the claims of a policy alone. Nothing is written.

    Args:
        run_dir: A finished run.
        baseline_path: An accepted baseline; None only where the policy compares nothing.
        policy_path: What differs from the default policy.
        repeats: Further runs of the same, for their times.

    Raises:
        UsageError: The gate refuses: something is missing, broken, or unlike what it should be
            compared with.
    """
    policy = load_policy(policy_path)
    where = str(policy_path) if policy_path else DEFAULT_POLICY
    baseline = _baseline(baseline_path, policy, where)
    run, evidence = take(run_dir, name="run", reason="gated", repeats=repeats)
    pairs = compared_cells(baseline, run, policy) if baseline is not None else []
    findings = leak_findings(evidence, pairs, policy.controls)
    if baseline is not None:
        findings += accuracy_findings(pairs, policy.accuracy)
        findings += cache_findings(pairs)
        findings += weight_findings(baseline, run, policy)
        findings += memory_findings(baseline, run, policy)
        findings += time_findings(baseline, run, policy)
        findings += criterion_findings(baseline, evidence, policy)
    findings += claim_findings(evidence, policy, where)
    verdict = verdict_of(findings)
    return GateReport(
        run=str(run_dir),
        baseline=baseline.title if baseline else None,
        policy=where,
        verdict=verdict,
        exit_code=EXIT_CODES[verdict],
        headline=_headline(findings),
        findings=tuple(findings),
        notes=differences(baseline, run) if baseline else (),
    )


def refusal(run_dir: Path, baseline: Path | None, policy: Path | None, why: str) -> GateReport:
    """The report of a gate that could not begin."""
    return GateReport(
        run=str(run_dir),
        baseline=baseline.stem if baseline else None,
        policy=str(policy) if policy else DEFAULT_POLICY,
        verdict="refused",
        exit_code=EXIT_CODES["refused"],
        headline=why,
        findings=(),
    )


def accuracy_findings(pairs: Sequence[CellPair], policy: AccuracyPolicy) -> list[Finding]:
    """Every arm that is no control, on every task, against its own earlier answers."""
    places = [
        (before, after, arm) for before, after, arms in pairs for arm in arms if arm not in CONTROLS
    ]
    cells = [count_outcomes(before.right(arm), after.right(arm)) for before, after, arm in places]
    judged = judge_cells(cells, margin=policy.margin, alpha=policy.alpha)
    lengths: dict[str, set[int]] = {}
    for before, _, _ in pairs:
        lengths.setdefault(before.task, set()).add(before.context_tokens)
    found = []
    for (before, after, arm), cell in zip(places, judged, strict=True):
        task = before.task
        if len(lengths[task]) > 1:
            task += f", {before.context_tokens:,} tokens"
        found.append(
            Finding(
                check="accuracy",
                subject=f"{arm} on {task}",
                verdict=cell.verdict,
                text=_accuracy_text(cell, policy),
                before=f"{before.arms[arm].right:,} of {before.num_samples:,}",
                after=f"{after.arms[arm].right:,} of {after.num_samples:,}",
                n_needed=cell.n_needed,
                counted="prompts" if cell.n_needed else "",
            )
        )
    return found


def _accuracy_text(cell: JudgedCell, policy: AccuracyPolicy) -> str:
    seen = cell.outcomes
    if not seen.both + seen.lost:
        return f"the baseline answered none of them, so nothing can be lost; gained {seen.gained:,}"
    text = (
        f"lost {seen.lost:,}, gained {seen.gained:,}: {100 * seen.difference:+.1f} points "
        f"({100 * cell.low:+.1f} to {100 * cell.high:+.1f}), McNemar one-sided p = "
        f"{cell.p_value:.2g}, Holm {cell.adjusted_p:.2g}"
    )
    if cell.verdict == "inconclusive":
        text += f"; a loss of {100 * policy.margin:g} points is not excluded"
    return text


def _baseline(path: Path | None, policy: Policy, where: str) -> Baseline | None:
    if policy.compare and path is None:
        raise UsageError(
            "a gate compares with a baseline, and none is named; pass --baseline "
            "baselines/NAME.json, or a policy with `compare: false`"
        )
    if not policy.compare and path is not None:
        raise UsageError(
            f"{where} has `compare: false`, so that {path} would be ignored; leave out --baseline "
            "or take another --policy"
        )
    return read_baseline(path) if path is not None else None


def _headline(findings: Sequence[Finding]) -> str:
    """How many findings of each kind, in words, the worst first."""
    counts = Counter(finding.verdict for finding in findings)
    words = {"pass": "passed", "regression": "worse"}
    parts = [
        f"{counts[verdict]:,} {words.get(verdict, verdict)}"
        for verdict in (*SEVERITY, "not compared")
        if counts[verdict]
    ]
    return ", ".join(parts) or "nothing was compared"
