"""`gistbench speed`: measure, and write one record."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from gistbench.config import Config, TrainConfig
from gistbench.errors import UsageError
from gistbench.measurement import provenance, synchronize
from gistbench.models.random_weights import MEANINGLESS
from gistbench.records import NotMeasured
from gistbench.speed.decoding import ArmModel, load_arm, measure_decoding
from gistbench.speed.rates import measure_rates
from gistbench.speed.records import DecodingSpeed, SkippedSide, SpeedBase, SpeedRecord
from gistbench.speed.settings import DecodedArm, DecodeSpeedConfig
from gistbench.speed.training import measure_training
from gistbench.storage import check_writable, write_json

NO_TASK = NotMeasured(not_measured="speed alone was measured: no task was answered")


def speed_of_training(
    config: TrainConfig,
    output: Path,
    *,
    device: Literal["cpu", "cuda"],
    steps: int,
    warm_up_steps: int,
    command: str,
) -> SpeedRecord | None:
    """Time training steps and write the record.

    Returns:
        The record; None in all but the first of several processes that share the steps.

    Raises:
        GistbenchError: The configuration cannot be trained, or the file not be written.
    """
    _require_file(output)
    rates = measure_rates(device, getattr(torch, config.base.dtype))
    measured = measure_training(config, rates, device, steps=steps, warm_up_steps=warm_up_steps)
    if measured is None:
        return None
    training, base = measured
    record = SpeedRecord(
        **about(config, command, device), base=base, rates=rates, training=training
    )
    write_json(output, record)
    return record


def speed_of_decoding(
    settings: DecodeSpeedConfig,
    output: Path,
    *,
    device: Literal["cpu", "cuda"],
    command: str,
    say: Callable[[str], None] = lambda _: None,
) -> SpeedRecord:
    """Time decoding on every side and write the record, whole after each precision.

    Raises:
        GistbenchError: A model cannot be had, or the file not be written.
    """
    _require_file(output)
    place = "cuda:0" if device == "cuda" else "cpu"
    say("measuring the device's own rates")
    rates = measure_rates(place, getattr(torch, settings.dtype))
    start = about(settings, command, place)
    done: list[DecodingSpeed] = []
    skipped: list[SkippedSide] = []

    def clock() -> float:
        synchronize(place)
        return time.perf_counter()

    record: SpeedRecord | None = None
    for quantization in settings.precisions:
        say(f"loading, quantization {quantization}")
        models: dict[DecodedArm, ArmModel] = {
            arm: load_arm(settings, arm, quantization, place) for arm in settings.arm_names
        }
        base = described_base(models[settings.arm_names[0]])
        for side in measure_decoding(settings, models, quantization, rates, place, clock):
            if isinstance(side, DecodingSpeed):
                done.append(side)
            else:
                skipped.append(side)
            say(f"{side.arm}, {side.decoding}, {quantization}, {side.batch_size} contexts")
        models.clear()
        if device == "cuda":
            torch.cuda.empty_cache()
        record = SpeedRecord(
            **start, base=base, rates=rates, decoding=tuple(done), skipped=tuple(skipped)
        )
        write_json(output, record)
    assert record is not None
    return record


def about(config: Config, command: str, device: str) -> dict[str, Any]:
    """The fields that every record of a measurement begins with."""
    random = getattr(config, "weights", "real") == "random"
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "settings": config.model_dump(mode="json"),
        "provenance": provenance(device),
        "accuracy": MEANINGLESS if random else NO_TASK,
    }


def described_base(arm: ArmModel) -> SpeedBase:
    """The base model as records name it, a folder without the folders around it."""
    reference = arm.base.reference
    return SpeedBase(
        name=Path(reference.name).name if Path(reference.name).exists() else reference.name,
        model_type=reference.model_type,
        fingerprint=reference.fingerprint,
        num_parameters=arm.num_parameters,
        dtype=reference.dtype,
    )


def _require_file(output: Path) -> None:
    """Refuse, before anything is measured, an output that cannot be written."""
    if output.is_dir():
        raise UsageError(f"--output {output} is a folder; name a file in it")
    check_writable(output.parent)
