"""What is not the same in all runs: the model, the settings, the tasks, the machine, the versions.

Only fields that differ are shown. What all share is said in one sentence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gistbench.metrics import format_bytes
from gistbench.records import CheckpointRecord, RunRecord
from gistbench.report.compare.records import DifferingGroup, DifferingRow
from gistbench.report.compare.sides import Side
from gistbench.report.evidence import Cell, cell_of

NOTHING = "–"
HASH_DIGITS = 12

SHOWN_ELSEWHERE = {
    "base",
    "checkpoint",
    "device",
    "dtype",
    "lengths",
    "models",
    "quantization",
    "samples",
    "seed",
    "split",
    "tasks",
    "tuned_checkpoint",
}
"""Settings whose effect is a row of its own: what a run took, not what it was asked to take."""

Fields = dict[str, str]


def differing(sides: Sequence[Side], labels: Mapping[Cell, str]) -> tuple[DifferingGroup, ...]:
    """Every field that is not the same in all runs."""
    groups = {
        "Base model": [_base(side) for side in sides],
        "Gist checkpoint": _checkpoints([side.evidence.run.checkpoint for side in sides]),
        "Tuned checkpoint": _checkpoints([side.evidence.run.tuned_checkpoint for side in sides]),
        "What ran": [_asked(side, sides, labels) for side in sides],
        "Settings": [settings(side.evidence.run) for side in sides],
        "Machine": [_machine(side) for side in sides],
        "Versions": [_versions(side) for side in sides],
        "Environments of their own": [_own_packages(side, sides) for side in sides],
    }
    found = []
    for title, columns in groups.items():
        names = dict.fromkeys(name for column in columns for name in column)
        rows = tuple(
            DifferingRow(label=name, values=values)
            for name in names
            for values in (tuple(column.get(name) or NOTHING for column in columns),)
            if len(set(values)) > 1
        )
        if rows:
            found.append(DifferingGroup(title=title, rows=rows))
    return tuple(found)


def alike(sides: Sequence[Side]) -> str:
    """What of the things that matter is the same in all runs, in a sentence."""
    facets: dict[str, list[Any]] = {
        "base weights": [side.evidence.run.base.fingerprint for side in sides],
        "precision": [
            (side.evidence.run.base.dtype, side.evidence.run.base.quantization) for side in sides
        ],
        "gist checkpoint": [
            found.sha256 if (found := side.evidence.run.checkpoint) else None for side in sides
        ],
        "device": [devices(side) for side in sides],
        "gistbench's commit": [
            (side.evidence.run.provenance.git_commit, side.evidence.run.provenance.git_dirty)
            for side in sides
        ],
    }
    same = [name for name, values in facets.items() if values[0] and _same(values)]
    if not same:
        return "The runs share neither base weights, precision, checkpoint, device nor commit."
    return f"The same in all: {', '.join(same)}."


def devices(side: Side) -> frozenset[str]:
    """Names of the devices that a run, or the parts it was merged of, ran on."""
    run = side.evidence.run
    return frozenset({run.provenance.device_name, *(part.device_name for part in run.parts)})


def _same(values: Sequence[Any]) -> bool:
    return all(value == values[0] for value in values)


def _base(side: Side) -> Fields:
    base = side.evidence.run.base
    return {
        "name": base.name,
        "architecture": base.model_type,
        "weights, sha256": base.fingerprint[:HASH_DIGITS],
        "what to know of them": base.weights_note,
        "source": base.source,
        "dtype": base.dtype,
        "quantisation": base.quantization,
        "parameters": f"{base.num_parameters:,}",
        "layers": str(base.num_layers),
        "keys and values of a token": f"{base.key_value_bytes_per_token:,} bytes",
    }


def _checkpoints(found: Sequence[CheckpointRecord | None]) -> list[Fields]:
    """All of them in full; by name alone where a run has none, since there is nothing beside it."""
    if None in found:
        return [{"name": one.name} if one else {} for one in found]
    return [_checkpoint(one) for one in found if one]


def _checkpoint(found: CheckpointRecord) -> Fields:
    return {
        "name": found.name,
        "sha256": found.sha256[:HASH_DIGITS],
        "gists": str(found.num_gists),
        "trained parameters": f"{found.trained_parameters:,}",
        "size": format_bytes(found.size_bytes),
        "training": found.training_summary,
        "trained on": ", ".join(found.trained_on),
        "longest context in training": f"{found.max_trained_context_tokens:,} tokens",
    }


def _asked(side: Side, sides: Sequence[Side], labels: Mapping[Cell, str]) -> Fields:
    """Arms and tasks that not all runs have; of those that all have, what is not the same."""
    run = side.evidence.run
    arms = [other.evidence.arm_names for other in sides]
    tasks = [{cell_of(task) for task in other.evidence.run.tasks} for other in sides]
    fields = {
        "arms that not all have": ", ".join(
            arm for arm in side.evidence.arm_names if not all(arm in names for names in arms)
        ),
        "tasks that not all have": ", ".join(
            side.evidence.label(task)
            for task in run.tasks
            if not all(cell_of(task) in found for found in tasks)
        ),
    }
    for cell, label in labels.items():
        task = side.task(cell)
        if task is None or not all(other.task(cell) for other in sides):
            continue
        fields |= {
            f"{label}: version": task.version,
            f"{label}: samples": f"{task.num_samples:,}",
            f"{label}: seed": str(task.seed),
            f"{label}: split": task.split,
            f"{label}: generation": json.dumps(task.generation, sort_keys=True),
            f"{label}: right means": task.exact_match_means,
        }
        if len({found.num_samples for other in sides if (found := other.task(cell))}) == 1:
            fields[f"{label}: prompts, sha256"] = task.samples_sha256[:HASH_DIGITS]
    fields["parts that it was merged of"] = str(len(run.parts)) if run.parts else ""
    return fields


def settings(run: RunRecord) -> Fields:
    """Settings that have no row of their own.

    An option that a run is too old to know has no value, as one that was left alone.
    """
    own = {name: value for name, value in run.settings.items() if name not in SHOWN_ELSEWHERE}
    return dict(_flat("", own))


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{name}.", value)
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        elif value is not None:
            yield f"{prefix}{name}", str(value).lower() if isinstance(value, bool) else str(value)


def _machine(side: Side) -> Fields:
    where = side.evidence.run.provenance
    return {
        "device": ", ".join(sorted(devices(side))),
        "CPU cores": str(where.num_cpu_cores),
        "device memory": format_bytes(where.device_total_bytes) if where.device_total_bytes else "",
        "driver": where.driver_version or "",
        "CUDA": where.cuda_version or "",
        "platform": where.platform,
        "Python": where.python,
    }


def _versions(side: Side) -> Fields:
    where = side.evidence.run.provenance
    commit = where.git_commit or "unknown"
    return {
        "gistbench": where.gistbench_version,
        "commit": commit[:HASH_DIGITS] + (", with uncommitted changes" if where.git_dirty else ""),
        **{name: where.packages[name] for name in sorted(where.packages)},
    }


def _own_packages(side: Side, sides: Sequence[Side]) -> Fields:
    """Versions in the environments that arms ran in by themselves, as far as all runs have them."""
    fields: Fields = {}
    for arm in side.evidence.run.arms:
        others = [found for other in sides if (found := other.evidence.arm(arm.name))]
        if arm.packages and len(others) == len(sides):
            versions = sorted(arm.packages.items())
            fields[arm.name] = ", ".join(f"{name} {version}" for name, version in versions)
    return fields
