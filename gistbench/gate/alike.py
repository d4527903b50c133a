"""Whether a run and a baseline may be compared at all: the same questions to the same model."""

from __future__ import annotations

from typing import Any

from gistbench.errors import UsageError, did_you_mean
from gistbench.gate.baseline import Baseline, BaselineCell
from gistbench.gate.policy import Policy

Place = tuple[str, int]
"""A task and a length."""

CellPair = tuple[BaselineCell, BaselineCell, tuple[str, ...]]
"""A cell of the baseline, the same of the run, and the arms that both answered it with."""


def compared_cells(baseline: Baseline, run: Baseline, policy: Policy) -> list[CellPair]:
    """The cells to compare.

    Raises:
        UsageError: Names the first thing that differs and must not.
    """
    _require_model(baseline, run, policy)
    _require_known(baseline, policy)
    for arm in compared_arms(baseline, policy):
        if arm not in run.arms:
            raise UsageError(_no_arm(baseline, arm, "no arm"))
    found = {_place(cell): cell for cell in run.cells}
    pairs = []
    for cell in baseline.cells:
        if policy.cells.tasks is not None and cell.task not in policy.cells.tasks:
            continue
        arms = tuple(
            arm
            for arm in sorted(cell.arms)
            if policy.cells.arms is None or arm in policy.cells.arms
        )
        if not arms:
            continue
        other = found.get(_place(cell))
        if other is None:
            raise UsageError(
                f"the run has no {cell.task} at {cell.context_tokens:,} tokens, which the baseline "
                f"{baseline.name} has; run it, or name the tasks to compare in cells.tasks of a "
                "policy"
            )
        _require_cell(baseline, cell, other, arms)
        pairs.append((cell, other, arms))
    if not pairs:
        raise UsageError(
            f"the baseline {baseline.name} holds no answers of these arms on these tasks, so that "
            "nothing would be compared; name others in `cells` of the policy"
        )
    return pairs


def compared_arms(baseline: Baseline, policy: Policy) -> tuple[str, ...]:
    """The arms of the baseline that a policy compares."""
    wanted = policy.cells.arms
    return tuple(arm for arm in sorted(baseline.arms) if wanted is None or arm in wanted)


def differences(baseline: Baseline, run: Baseline) -> tuple[str, ...]:
    """What differs and does not decide: versions, commits, and what only the run has."""
    notes = []
    if baseline.origin.gistbench_version != run.origin.gistbench_version:
        notes.append(
            f"gistbench {baseline.origin.gistbench_version} then, "
            f"{run.origin.gistbench_version} now"
        )
    then, now = baseline.origin.packages, run.origin.packages
    changed = [
        f"{name} {then.get(name, 'absent')} then, {now.get(name, 'absent')} now"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
    if changed:
        notes.append("; ".join(changed))
    if baseline.model.device_name != run.model.device_name:
        notes.append(
            f"measured on {baseline.model.device_name} then, on {run.model.device_name} now"
        )
    new = [f"{c.task} at {c.context_tokens:,} tokens" for c in _only_in(run, baseline)]
    new += [f"arm {arm}" for arm in sorted(run.arms.keys() - baseline.arms.keys())]
    if new:
        notes.append(f"not in the baseline, so not compared: {', '.join(new)}")
    return tuple(notes)


def _only_in(run: Baseline, baseline: Baseline) -> list[BaselineCell]:
    known = {_place(cell) for cell in baseline.cells}
    return [cell for cell in run.cells if _place(cell) not in known]


def _place(cell: BaselineCell) -> Place:
    return cell.task, cell.context_tokens


def _require_model(baseline: Baseline, run: Baseline, policy: Policy) -> None:
    before, after = baseline.model, run.model
    compared: list[tuple[str, Any, Any]] = [
        (
            "base weights",
            _hash(before.base, before.base_sha256),
            _hash(after.base, after.base_sha256),
        ),
        ("dtype", before.dtype, after.dtype),
        ("quantisation", before.quantization, after.quantization),
    ]
    if policy.checkpoint == "same":
        compared += [
            (
                "checkpoint",
                _hash(before.checkpoint, before.checkpoint_sha256),
                _hash(after.checkpoint, after.checkpoint_sha256),
            ),
            (
                "tuned checkpoint",
                _hash(before.tuned_checkpoint, before.tuned_checkpoint_sha256),
                _hash(after.tuned_checkpoint, after.tuned_checkpoint_sha256),
            ),
        ]
    for what, one, two in compared:
        if one != two:
            hint = "; or pass a policy with `checkpoint: any`" if "checkpoint" in what else ""
            _refuse(baseline, what, one, two, f"run what the baseline ran{hint}")


def _hash(name: str | None, sha256: str | None) -> str:
    return "none" if name is None or sha256 is None else f"{name} ({sha256[:12]})"


def _require_known(baseline: Baseline, policy: Policy) -> None:
    known = {
        "tasks": sorted({cell.task for cell in baseline.cells}),
        "arms": sorted(baseline.arms),
    }
    for field, names in known.items():
        for wanted in getattr(policy.cells, field) or ():
            if wanted not in names:
                raise UsageError(
                    f"cells.{field} of the policy names {wanted!r}, which baseline {baseline.name} "
                    f"has not; {did_you_mean(wanted, names)}"
                )


def _require_cell(
    baseline: Baseline, before: BaselineCell, after: BaselineCell, arms: tuple[str, ...]
) -> None:
    again = "run the task as the baseline's command has it, or accept a new baseline"
    for field in ("version", "split", "seed", "num_samples"):
        one, two = getattr(before, field), getattr(after, field)
        if one != two:
            what = field.replace("num_samples", "number of samples")
            _refuse(baseline, f"{what} of {before.task}", one, two, again)
    if (before.hashes, before.samples_sha256) != (after.hashes, after.samples_sha256):
        one, two = before.samples_sha256[:12], after.samples_sha256[:12]
        _refuse(baseline, f"prompts of {before.task}", one, two, again)
    for arm in arms:
        if arm not in after.arms:
            where = f"{before.task} at {before.context_tokens:,} tokens"
            raise UsageError(_no_arm(baseline, arm, f"no answers to {where} of arm"))


def _no_arm(baseline: Baseline, arm: str, what: str) -> str:
    return (
        f"the run has {what} {arm}, which baseline {baseline.name} has; run it, or name the arms "
        "to compare in cells.arms of a policy"
    )


def _refuse(baseline: Baseline, what: str, before: Any, after: Any, next_step: str) -> None:
    raise UsageError(
        f"the run is not comparable with baseline {baseline.name}: {what} {before} there and "
        f"{after} here; {next_step}"
    )
