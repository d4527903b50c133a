"""Bytes and memory: exact where they are counted, with a tolerance where they are read."""

from __future__ import annotations

from collections.abc import Sequence

from gistbench.gate.alike import CellPair, compared_arms
from gistbench.gate.baseline import Baseline, BaselineCell, HeldMemory
from gistbench.gate.findings import NOT_MEASURED, Check, Finding
from gistbench.gate.policy import Policy
from gistbench.metrics import MIB, format_bytes, format_percent
from gistbench.records import NotMeasured
from gistbench.report.controls import CONTROLS


def cache_findings(pairs: Sequence[CellPair]) -> list[Finding]:
    """The key/value cache of each arm, byte for byte; one finding an arm.

    Fewer bytes are a regression too: a cache that silently holds less than it should is as broken
    as one that holds more, and a change that was meant is accepted as a new baseline.
    """
    found = []
    for arm in sorted({arm for _, _, arms in pairs for arm in arms}):
        cells = [(before, after) for before, after, arms in pairs if arm in arms]
        differing = [
            (before, after) for before, after in cells if _cache(before, arm) != _cache(after, arm)
        ]
        shown = differing or cells
        before, after = (_cache_text(cell, arm) for cell in shown[0])
        if not differing:
            text = f"the same bytes on {_tasks(len(cells))}"
        else:
            where = shown[0][0]
            text = (
                f"{before} a context then and {after} now on {where.task} at "
                f"{where.context_tokens:,} tokens"
            )
            if len(differing) > 1:
                text += f", and other bytes on {_tasks(len(differing) - 1)} more"
            text += "; if that is meant, accept a new baseline"
        found.append(
            Finding(
                check="cache bytes",
                subject=arm,
                verdict="regression" if differing else "pass",
                text=text,
                before=before,
                after=after,
            )
        )
    return found


def weight_findings(baseline: Baseline, run: Baseline, policy: Policy) -> list[Finding]:
    """The bytes of each arm's weights."""
    found = []
    for arm in compared_arms(baseline, policy):
        before, after = baseline.arms[arm], run.arms[arm]
        same = (before.weights, before.weights_bytes) == (after.weights, after.weights_bytes)
        found.append(
            Finding(
                check="weights",
                subject=arm,
                verdict="pass" if same else "regression",
                text="the same bytes"
                if same
                else f"{before.weights_bytes:,} bytes ({before.weights}) then and "
                f"{after.weights_bytes:,} ({after.weights}) now; if that is meant, accept a new "
                "baseline",
                before=format_bytes(before.weights_bytes),
                after=format_bytes(after.weights_bytes),
            )
        )
    return found


def memory_findings(baseline: Baseline, run: Baseline, policy: Policy) -> list[Finding]:
    """Torch's count and NVML's reading with contexts held, arm by arm."""
    found = []
    for arm in compared_arms(baseline, policy):
        if arm in CONTROLS:  # they hold what other arms hold
            continue
        one, many = baseline.arms[arm].held_one, baseline.arms[arm].held_many
        found += _held_findings(baseline, run, policy, arm, one, run.arms[arm].held_one)
        if _num_held(one) != _num_held(many) or isinstance(many, NotMeasured):
            found += _held_findings(baseline, run, policy, arm, many, run.arms[arm].held_many)
    return list(dict.fromkeys(found))


def _num_held(state: HeldMemory | NotMeasured) -> int | None:
    return state.contexts_held if isinstance(state, HeldMemory) else None


def _held_findings(
    baseline: Baseline,
    run: Baseline,
    policy: Policy,
    arm: str,
    before: HeldMemory | NotMeasured,
    after: HeldMemory | NotMeasured,
) -> list[Finding]:
    if isinstance(before, NotMeasured):
        text = f"the baseline did not measure it: {before.not_measured}"
        return [
            Finding(check=check, subject=arm, verdict="not compared", text=text)
            for check in ("allocated memory", "device memory")
        ]
    count = before.contexts_held
    subject = f"{arm}, {count:,} context{'s'[: count > 1]} held"
    fault = _unlike(baseline, run, before, after)
    return [
        _memory_finding(
            "allocated memory",
            subject,
            before.allocated_bytes,
            fault or (after.allocated_bytes if isinstance(after, HeldMemory) else after),
            tolerance=policy.allocated_memory.tolerance,
            slack=0,
            required=policy.allocated_memory.required,
        ),
        _memory_finding(
            "device memory",
            subject,
            before.device_used_bytes,
            fault or (after.device_used_bytes if isinstance(after, HeldMemory) else after),
            tolerance=policy.device_memory.tolerance,
            slack=policy.device_memory.slack_mib * MIB,
            required=policy.device_memory.required,
        ),
    ]


def _unlike(
    baseline: Baseline, run: Baseline, before: HeldMemory, after: HeldMemory | NotMeasured
) -> NotMeasured | None:
    """Why two readings of memory are not of the same thing; None when they are."""
    devices = baseline.model.device_name, run.model.device_name
    if devices[0] != devices[1]:
        return NotMeasured(
            not_measured=f"memory depends on the device, {devices[0]} then and {devices[1]} now; "
            "run on the former"
        )
    if isinstance(after, NotMeasured):
        return None
    held = (before.contexts_held, before.context_tokens)
    holds = (after.contexts_held, after.context_tokens)
    if held == holds:
        return None
    return NotMeasured(
        not_measured=f"{held[0]} contexts of {held[1]:,} tokens were held then and {holds[0]} of "
        f"{holds[1]:,} now; repeat the baseline's command"
    )


def _memory_finding(
    check: Check,
    subject: str,
    before: int | NotMeasured,
    after: int | NotMeasured,
    *,
    tolerance: float,
    slack: int,
    required: bool,
) -> Finding:
    if isinstance(before, NotMeasured):
        text = f"the baseline did not measure it: {before.not_measured}"
        return Finding(check=check, subject=subject, verdict="not compared", text=text)
    if isinstance(after, NotMeasured):
        return Finding(
            check=check,
            subject=subject,
            verdict="refused" if required else "not compared",
            text=after.not_measured,
            before=format_bytes(before),
            after=NOT_MEASURED,
        )
    allowed = max(tolerance * before, slack)
    grown = after - before
    worse = grown > allowed
    limit = format_percent(tolerance)
    if slack:
        limit += f" or {format_bytes(slack)}, whichever is more,"
    change = f"{100 * grown / before:+.2f} %" if before else f"{grown:+,} bytes"
    return Finding(
        check=check,
        subject=subject,
        verdict="regression" if worse else "pass",
        text=f"{format_bytes(before)} then and {format_bytes(after)} now ({change}); up to "
        f"{limit} more is tolerated",
        before=format_bytes(before),
        after=format_bytes(after),
    )


def _cache(cell: BaselineCell, arm: str) -> tuple[int, int]:
    return cell.arms[arm].cache_bytes, cell.arms[arm].cache_tokens


def _cache_text(cell: BaselineCell, arm: str) -> str:
    return format_bytes(cell.arms[arm].cache_bytes / cell.num_samples)


def _tasks(count: int) -> str:
    return f"{count:,} task{'' if count == 1 else 's'}"
