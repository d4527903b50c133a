"""`gistbench merge`: runs on the same samples become one, arm beside arm and length beside length.

Parts may differ in arms, tasks and lengths, and in nothing that would make their answers differ:
base model, precision, device, checkpoints, the environments that arms have of their own, and the
prompts of every task and length that two of them share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

from gistbench.bench.parts import Cell, Part, read_part, require_alike
from gistbench.errors import UsageError
from gistbench.records import (
    ArmRecord,
    MemoryRecord,
    NotMeasured,
    PartRecord,
    RunRecord,
    SampleRecord,
    TaskRecord,
)
from gistbench.storage import (
    MEMORY_FILE,
    SAMPLES_FILE,
    check_writable,
    read_jsonl,
    stored,
    write_run,
)


def merge(folders: Sequence[Path], output: Path, *, packed: bool = False) -> Path:
    """Write one run directory out of several.

    Where two parts hold the same arm on the same task and length, the first one's answers stand,
    and a note says how many of the other's differ.

    Args:
        folders: Finished run directories; the criteria are judged at the first one's length.
        output: The new run directory.
        packed: Compress the samples and memory ticks, to a few per cent of their size.

    Raises:
        UsageError: A part is no finished run, the parts do not belong together, or the output is
            in use.
    """
    if len(folders) < 2:
        raise UsageError("merging takes two run directories or more")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} is in use; choose another --output")
    record, samples, memory = joined(folders)
    check_writable(output)
    write_run(output, record, samples, memory, packed=packed)
    return output


def joined(
    folders: Sequence[Path],
) -> tuple[RunRecord, list[SampleRecord], list[MemoryRecord]]:
    """The records of one run made of several; see `merge`.

    Raises:
        UsageError: A part is no finished run, or the parts do not belong together.
    """
    parts = [read_part(folder) for folder in folders]
    # Each with each: the first need not have what two others share.
    for one, other in combinations(parts, 2):
        require_alike(one, other)
    samples, notes = _samples(parts)
    record = _record(parts, samples, notes)
    memory = [
        tick
        for arm in record.arms
        for tick in read_jsonl(_home(parts, arm.name).folder / MEMORY_FILE, MemoryRecord)
        if tick.arm == arm.name
    ]
    return record, samples, memory


def _samples(parts: Sequence[Part]) -> tuple[list[SampleRecord], list[str]]:
    """Every answer once, the first part's before others, and what is to be said of the rest."""
    kept: dict[tuple[str, Cell, str], SampleRecord] = {}
    answered: dict[tuple[str, Cell], Part] = {}
    again: dict[str, list[bool]] = {}
    other_weights: dict[str, str] = {}
    for part in parts:
        left_out = _controls_of_other_weights(parts, part)
        other_weights |= left_out
        for sample in part.samples:
            if sample.arm in left_out:
                continue
            cell = part.cell(sample)
            place = sample.arm, cell
            key = sample.arm, cell, sample.sample_id
            if answered.setdefault(place, part) is part:
                kept[key] = sample.model_copy(update={"nominal_tokens": cell[1]})
            elif key in kept:
                again.setdefault(sample.arm, []).append(kept[key].output != sample.output)
    notes = [
        f"{arm} answered {len(differing):,} samples in a second part too: {sum(differing):,} of "
        "the answers differ there; those of the first part stand"
        for arm, differing in again.items()
    ]
    notes += [
        f"{arm} of a second part is left out: it ran on other weights ({weights})"
        for arm, weights in other_weights.items()
    ]
    return list(kept.values()), notes


def _controls_of_other_weights(parts: Sequence[Part], part: Part) -> dict[str, str]:
    """Controls of a part that ran on other weights than those of the part that has them first."""
    found: dict[str, str] = {}
    for arm in part.run.arms:
        home = next(mine for mine in _home(parts, arm.name).run.arms if mine.name == arm.name)
        if (home.weights, home.trained_on) != (arm.weights, arm.trained_on):
            found[arm.name] = arm.weights
    return found


def _home(parts: Sequence[Part], arm: str) -> Part:
    """The part that an arm's own record is taken from: the first that has it at the judged length.

    Where none has, the first of another length.
    """
    having = [part for part in parts if any(found.name == arm for found in part.run.arms)]
    at_length = (part for part in having if part.judged_tokens == parts[0].judged_tokens)
    return next(at_length, having[0])


def _record(
    parts: Sequence[Part], samples: Sequence[SampleRecord], notes: Sequence[str]
) -> RunRecord:
    first = parts[0].run
    tasks: dict[Cell, TaskRecord] = {}
    for part in parts:
        for cell, task in part.tasks.items():
            tasks.setdefault(cell, task)
    names = dict.fromkeys(arm.name for part in parts for arm in part.run.arms)
    timed = _timed_together(parts)
    arms = [_arm(parts, name, timed, samples, tasks) for name in names]
    ran = {(sample.arm, sample.nominal_tokens) for sample in samples}
    excluded = {
        (found.arm, found.context_tokens): found
        for part in parts
        for found in part.run.not_applicable
        if (found.arm, found.context_tokens) not in ran
    }
    runs = [part.run for part in parts]
    ran_as = [command for part in parts for command in _commands(part)]
    commands = [f"{command} --output part-{n}" for n, command in enumerate(ran_as, start=1)]
    merging = " ".join(f"part-{number}" for number in range(1, len(ran_as) + 1))
    return first.model_copy(
        update={
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " && ".join([*commands, f"gistbench merge {merging} --output merged"]),
            "checkpoint": next((run.checkpoint for run in runs if run.checkpoint), None),
            "tuned_checkpoint": next(
                (run.tuned_checkpoint for run in runs if run.tuned_checkpoint), None
            ),
            "tasks": tuple(tasks.values()),
            "arms": tuple(arms),
            "not_applicable": tuple(excluded.values()),
            "parts": tuple(record for part in parts for record in _part_records(part)),
            "notes": tuple(dict.fromkeys([*(n for run in runs for n in run.notes), *notes])),
        }
    )


def _timed_together(parts: Sequence[Part]) -> Part | None:
    """The part whose rounds may be compared: rounds alternate within one run, at one length."""

    def num_timed(part: Part) -> int:
        return sum(not isinstance(arm.throughput_rounds, NotMeasured) for arm in part.run.arms)

    at_length = (part for part in parts if part.judged_tokens == parts[0].judged_tokens)
    best = max(at_length, key=num_timed)
    return best if num_timed(best) else None


def _arm(
    parts: Sequence[Part],
    name: str,
    timed: Part | None,
    samples: Sequence[SampleRecord],
    tasks: dict[Cell, TaskRecord],
) -> ArmRecord:
    def of(part: Part) -> ArmRecord | None:
        return next((arm for arm in part.run.arms if arm.name == name), None)

    found = [arm for part in parts if (arm := of(part)) is not None]
    at_home = of(_home(parts, name)) or found[0]
    in_timed = of(timed) if timed is not None else None
    rounds = in_timed.throughput_rounds if in_timed is not None else at_home.throughput_rounds
    if in_timed is None and not isinstance(rounds, NotMeasured):
        rounds = NotMeasured(not_measured="timed in another part than the arms it would stand by")
    num_samples = sum(sample.arm == name for sample in samples)
    return at_home.model_copy(
        update={
            "num_samples": num_samples,
            "complete": all(arm.complete for arm in found),
            "throughput_rounds": rounds,
            "warnings": tuple(dict.fromkeys(text for arm in found for text in arm.warnings)),
        }
    )


def _commands(part: Part) -> list[str]:
    """The command lines behind a part: its own, or those of the runs that it was merged from."""
    if not part.run.parts:
        return [part.run.command]
    # A run of several lengths is one command, and a part for each of them.
    return list(dict.fromkeys(found.command for found in part.run.parts))


def _part_records(part: Part) -> tuple[PartRecord, ...]:
    """What a part ran, one record for each length; a merged part's own parts stand for it.

    What was asked of whom is read from these: a length left out would go without its controls.
    """
    run = part.run
    if run.parts:
        return run.parts
    sha256 = hashlib.sha256(stored(part.folder / SAMPLES_FILE).read_bytes()).hexdigest()
    return tuple(
        PartRecord(
            created=run.created,
            command=run.command,
            git_commit=run.provenance.git_commit,
            device_name=run.provenance.device_name,
            arms=tuple(arm.name for arm in run.arms),
            tasks=tuple(task.name for task in run.tasks if task.context_tokens == tokens),
            context_tokens=tokens,
            samples_sha256=sha256,
        )
        for tokens in dict.fromkeys(task.context_tokens for task in run.tasks)
    )
