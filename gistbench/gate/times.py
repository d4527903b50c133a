"""Is it slower? Repeated runs of both sides, by turns; never one run against one run.

A repeat is a whole run, represented by its median: what a run times it times in the same
processes within minutes, so that its rounds say little about the next run. The two sides must have
been run by turns, since a machine of today and a machine of last week differ by more than most
changes to the code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from gistbench.gate.alike import compared_arms
from gistbench.gate.baseline import Baseline, RunTimes, TimeMetric
from gistbench.gate.findings import Finding
from gistbench.gate.policy import Policy, TimePolicy
from gistbench.metrics import format_seconds
from gistbench.records import NotMeasured
from gistbench.report.controls import CONTROLS
from gistbench.report.ranks import RankComparison, compare_ranks
from gistbench.report.statistics import holm

LONGEST_STREAK = 2
"""Runs of one side that may follow each other: A B A B and A B B A are by turns."""

TimeVerdict = Literal["pass", "regression", "inconclusive"]


@dataclass(frozen=True, slots=True)
class JudgedTime:
    """One time of one arm, judged; `repeats_needed` on either side, where inconclusive."""

    ranks: RankComparison
    verdict: TimeVerdict
    adjusted_p: float
    repeats_needed: int | None


def judge_times(
    groups: Sequence[tuple[Sequence[float], Sequence[float]]], policy: TimePolicy
) -> list[JudgedTime]:
    """Judge all times of a run together.

    A regression needs all three: the rank test rejects after Holm's adjustment, the estimated
    slowdown is large enough to matter, and so is Cliff's delta. A pass needs the one-sided 95 %
    limit of the slowdown to stay below the tolerance.

    Args:
        groups: For each arm and time the repeats before and after, in seconds.
        policy: Its bounds.
    """
    ranks = [compare_ranks(before, after) for before, after in groups]
    adjusted = holm([found.p_value for found in ranks])
    judged = []
    for (before, after), found, p_value in zip(groups, ranks, adjusted, strict=True):
        verdict: TimeVerdict = "inconclusive"
        large = found.ratio >= 1 + policy.slowdown and found.cliffs_delta >= policy.cliffs_delta
        if p_value <= policy.alpha and large:
            verdict = "regression"
        elif found.high < 1 + policy.tolerance:
            verdict = "pass"
        needed = None
        if verdict == "inconclusive":
            needed = _repeats_needed(found, min(len(before), len(after)), policy)
        judged.append(JudgedTime(found, verdict, p_value, needed))
    return judged


def time_findings(baseline: Baseline, run: Baseline, policy: Policy) -> list[Finding]:
    """Every time that the baseline has repeats of, arm by arm."""
    asked, compared = [], []
    findings = []
    for arm in compared_arms(baseline, policy):
        for metric in () if arm in CONTROLS else get_args(TimeMetric):
            before, after = (_values(side, arm, metric) for side in (baseline, run))
            if not before:
                continue
            asked.append((arm, metric))
            fault = _fault(baseline, run, policy.time, arm, metric)
            if fault is None:
                compared.append(((arm, metric), (before, after)))
                continue
            findings.append(
                Finding(
                    check="time",
                    subject=f"{arm}, {metric}",
                    verdict="refused" if policy.time.required else "not compared",
                    text=fault,
                )
            )
    judged = judge_times([groups for _, groups in compared], policy.time)
    for ((arm, metric), (before, after)), found in zip(compared, judged, strict=True):
        findings.append(_finding(arm, metric, before, after, found, policy.time))
    if not asked:
        text = "the baseline timed nothing"
        findings.append(
            Finding(check="time", subject="every arm", verdict="not compared", text=text)
        )
    return findings


def by_turns(before: Sequence[RunTimes], after: Sequence[RunTimes]) -> bool:
    """Whether the runs of two sides took turns."""
    order = sorted(
        [
            (datetime.fromisoformat(times.created), side)
            for side in (0, 1)
            for times in (before, after)[side]
        ]
    )
    streak, last = 0, None
    for _, side in order:
        streak = streak + 1 if side == last else 1
        last = side
        if streak > LONGEST_STREAK:
            return False
    return True


def _values(side: Baseline, arm: str, metric: TimeMetric) -> list[float]:
    times = side.arms[arm].times if arm in side.arms else ()
    return [found.seconds[metric] for found in times if metric in found.seconds]


def _fault(
    baseline: Baseline, run: Baseline, policy: TimePolicy, arm: str, metric: TimeMetric
) -> str | None:
    """Why a time cannot be compared; None when it can."""
    devices = baseline.model.device_name, run.model.device_name
    if devices[0] != devices[1]:
        return f"times depend on the device, {devices[0]} then and {devices[1]} now"
    if isinstance(run.timed_with, NotMeasured):
        return run.timed_with.not_measured
    if baseline.timed_with != run.timed_with:
        return "another length, batch size or number of contexts than the baseline's"
    counts = [len(_values(side, arm, metric)) for side in (baseline, run)]
    if min(counts) < policy.repeats:
        return (
            f"{counts[0]} and {counts[1]} runs; {policy.repeats} on either side, by turns, are "
            "needed (name more with --repeats)"
        )
    if not by_turns(baseline.arms[arm].times, run.arms[arm].times):
        return (
            "the runs of the two sides did not take turns, so that a change of the machine cannot "
            "be told from one of the code"
        )
    return None


def _repeats_needed(found: RankComparison, repeats: int, policy: TimePolicy) -> int | None:
    """Repeats at which the limit would exclude the tolerance, width shrinking with their root."""
    gap = math.log(1 + policy.tolerance) - math.log(found.ratio)
    if gap <= 0 or not math.isfinite(found.high):
        return None
    width = math.log(found.high) - math.log(found.ratio)
    return max(repeats + 1, math.ceil(repeats * (width / gap) ** 2))


def _finding(
    arm: str,
    metric: TimeMetric,
    before: Sequence[float],
    after: Sequence[float],
    found: JudgedTime,
    policy: TimePolicy,
) -> Finding:
    ranks = found.ranks
    text = (
        f"{_change(ranks.ratio)} (at most {_change(ranks.high)} at 95 %), Cliff's delta "
        f"{ranks.cliffs_delta:+.2f}, Mann-Whitney p = {ranks.p_value:.2g}, Holm "
        f"{found.adjusted_p:.2g}, {len(before)} and {len(after)} runs"
    )
    if found.verdict == "inconclusive":
        text += f"; {_change(1 + policy.tolerance)} is not excluded"
    return Finding(
        check="time",
        subject=f"{arm}, {metric}",
        verdict=found.verdict,
        text=text,
        before=format_seconds(_middle(before)),
        after=format_seconds(_middle(after)),
        n_needed=found.repeats_needed,
        counted="runs on either side" if found.repeats_needed else "",
    )


def _change(ratio: float) -> str:
    if not math.isfinite(ratio):
        return "any slowdown"
    percent = 100 * (ratio - 1)
    return f"{percent:.1f} % slower" if percent >= 0 else f"{-percent:.1f} % faster"


def _middle(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
