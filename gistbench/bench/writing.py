"""The records of a finished run, put together from what its arms left."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gistbench.bench import spread
from gistbench.bench.job import ArmResult, Probe
from gistbench.bench.state import Run
from gistbench.config import RunConfig
from gistbench.models.manifest import Manifest, checkpoint_record
from gistbench.records import (
    ArmRecord,
    MemoryRecord,
    NotApplicable,
    NotMeasured,
    RunRecord,
    SampleRecord,
    ThroughputRound,
)
from gistbench.storage import read_jsonl, write_run


def write_records(
    state: Run,
    found: Probe,
    results: dict[str, ArmResult],
    rounds: dict[str, tuple[ThroughputRound, ...] | NotMeasured],
) -> None:
    """Write the run directory's records, whole, from what the arms left in ``work/``.

    Args:
        state: The run.
        found: By the probe.
        results: Of every arm.
        rounds: Of every arm, or why there are none.
    """
    arms: list[ArmRecord] = [
        results[arm].arm.model_copy(update={"throughput_rounds": rounds[arm]}) for arm in state.arms
    ]
    samples = [item for arm in state.arms for item in _lines(state, arm, "samples", SampleRecord)]
    memory = [item for arm in state.arms for item in _lines(state, arm, "memory", MemoryRecord)]
    gist, tuned = state.checkpoints.gist, state.checkpoints.tuned
    tasks = results[state.arms[0]].tasks
    record = RunRecord(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=state.command,
        settings=state.config.model_dump(mode="json"),
        provenance=found.provenance,
        base=found.base,
        checkpoint=checkpoint_record(gist) if gist else None,
        tuned_checkpoint=checkpoint_record(tuned) if tuned else None,
        tasks=tasks,
        arms=tuple(arms),
        not_applicable=tuple(
            NotApplicable(arm=arm, context_tokens=tokens, reason=reason)
            for arm, reason in state.excluded.items()
            for tokens in dict.fromkeys(task.context_tokens for task in tasks)
        ),
        notes=(
            *state.notes,
            *_decoding_notes(state.config),
            *_weights_notes(gist),
            *spread.notes(state, found.provenance.device),
        ),
    )
    write_run(state.folder, record, samples, memory)


def _decoding_notes(config: RunConfig) -> tuple[str, ...]:
    if config.decoding == "eager":
        return ()
    return (
        f"{config.decoding} decoding keeps the buffers of the latest batch while the next contexts "
        "are read: peaks of the phase compress include them, in every arm",
    )


def _weights_notes(gist: Manifest | None) -> tuple[str, ...]:
    if gist is None or gist.answer_with == "adapter":
        return ()
    answering = {
        "own": "a second LoRA in it answers",
        "base": "the base model's own weights answer",
    }[gist.answer_with]
    return (
        f"{gist.name} writes its gists with its adapter, and {answering} "
        "from them; the adapter is kept apart, which makes reading, and static or compiled steps, "
        "slower than merged weights",
    )


def _lines(state: Run, arm: str, name: str, kind: Callable[..., Any]) -> list[Any]:
    return list(read_jsonl(state.work / f"{arm}.{name}.jsonl", kind))  # type: ignore[arg-type]
