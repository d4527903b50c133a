"""Where and with what a run happened, as lines."""

from __future__ import annotations

from gistbench.metrics import format_bytes, format_count
from gistbench.records import CheckpointRecord, RunRecord, TaskRecord
from gistbench.report.evidence import Evidence
from gistbench.report.shown import Line


def task_lines(evidence: Evidence) -> tuple[Line, ...]:
    """Every task as it ran."""
    return tuple(
        Line(
            label=evidence.label(task),
            text=f"version {task.version}, {task.language}, {_length(task)} context tokens, "
            f"{format_count(task.num_samples)} samples, seed {task.seed}, "
            f"chance floor {task.chance_floor:g}"
            + ("" if task.chance_floor_declared else " (the task declares none)")
            + f", samples {task.samples_sha256[:12]}"
            + (f"; right: {task.exact_match_means}" if task.exact_match_means else ""),
        )
        for task in evidence.run.tasks
    )


def _length(task: TaskRecord) -> str:
    if task.context_tokens_range is None:
        return format_count(task.context_tokens)
    shortest, longest = (format_count(tokens) for tokens in task.context_tokens_range)
    return f"{shortest} to {longest} (asked for: {format_count(task.context_tokens)})"


def environment_lines(run: RunRecord) -> tuple[Line, ...]:
    """Machine, versions, weights; and what a merged run was made of."""
    where, base = run.provenance, run.base
    commit = where.git_commit or "not run from a git checkout"
    rows = [
        ("Run", run.created),
        ("gistbench", where.gistbench_version),
        ("Commit", f"{commit}, with uncommitted changes" if where.git_dirty else commit),
        ("Device", f"{where.device_name} ({where.device}), {where.num_cpu_cores} CPU cores"),
        ("Platform", f"{where.platform}, Python {where.python}"),
        ("Base model", f"{base.name} ({base.model_type}), {base.source}"),
        ("Base weights", f"{base.num_parameters:,} parameters, sha256 {base.fingerprint[:16]}"),
        ("Precision", f"{base.dtype}, quantisation {base.quantization}"),
        ("Keys and values", f"{base.key_value_bytes_per_token:,} bytes a token"),
        ("Packages", _versions(where.packages)),
    ]
    tuned = _checkpoint("Tuned checkpoint", run.tuned_checkpoint)
    rows[6:6] = [*_checkpoint("Checkpoint", run.checkpoint), *tuned]
    if where.driver_version or where.cuda_version:
        versions = (
            f"driver {where.driver_version or 'unknown'}, CUDA {where.cuda_version or 'unknown'}"
        )
        memory = where.device_total_bytes
        rows.insert(4, ("GPU", versions + (f", {format_bytes(memory)}" if memory else "")))
    own: dict[str, list[str]] = {}
    for arm in run.arms:
        if arm.packages:
            own.setdefault(_versions(arm.packages), []).append(arm.name)
    rows += [(f"Packages of {', '.join(arms)}", versions) for versions, arms in own.items()]
    rows += [
        (
            f"Part {number}",
            f"{part.created}, {part.context_tokens:,} context tokens, arms "
            f"{', '.join(part.arms)}, on {part.device_name}, "
            f"commit {part.git_commit or 'unknown'}, "
            f"samples {part.samples_sha256[:12]}: {part.command}",
        )
        for number, part in enumerate(run.parts, start=1)
    ]
    return tuple(Line(label=label, text=text) for label, text in rows if text)


def _versions(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(packages.items()))


def _checkpoint(label: str, checkpoint: CheckpointRecord | None) -> list[tuple[str, str]]:
    if checkpoint is None:
        return []
    gists = f"{checkpoint.num_gists} gists" if checkpoint.num_gists else "whole context, no gists"
    training = "Training" if checkpoint.num_gists else "Training of it"
    return [
        (
            label,
            f"{checkpoint.name}, {gists}, {checkpoint.trained_parameters:,} trained parameters, "
            f"{format_bytes(checkpoint.size_bytes)}, sha256 {checkpoint.sha256[:16]}",
        ),
        (training, checkpoint.training_summary),
    ]
