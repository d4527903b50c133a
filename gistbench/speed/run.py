"""`gistbench speed`: measure, and write one record."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from gistbench.config import Config, TrainConfig
from gistbench.measurement import provenance, synchronize
from gistbench.models.random_weights import MEANINGLESS
from gistbench.records import NotMeasured
from gistbench.speed.arm_model import ArmModel, load_arm
from gistbench.speed.decoding import measure_decoding
from gistbench.speed.output import require_output
from gistbench.speed.rates import measure_rates
from gistbench.speed.records import DecodingSpeed, SkippedSide, SpeedBase, SpeedRecord
from gistbench.speed.settings import DecodedArm, DecodeSpeedConfig
from gistbench.speed.training import measure_training
from gistbench.storage import write_json

NO_TASK = NotMeasured(not_measured="speed alone was measured: no task was answered")


def speed_of_training(
    config: TrainConfig,
    output: Path,
    *,
    device: Literal["cpu", "cuda"],
    steps: int,
    warm_up_steps: int,
    command: str,
    profiled: bool = False,
) -> SpeedRecord | None:
    """Time training steps and write the record.

    Args:
        config: What `gistbench train` would run.
        output: File of the record.
        device: Where to train.
        steps: Timed.
        warm_up_steps: Before those.
        command: For the record.
        profiled: Trace further steps afterwards.

    Returns:
        The record; None in all but the first of several processes that share the steps.

    Raises:
        GistbenchError: The configuration cannot be trained, or the file not be written.
    """
    require_output(output, config)
    rates = measure_rates(device, getattr(torch, config.base.dtype))
    measured = measure_training(
        config, rates, device, steps=steps, warm_up_steps=warm_up_steps, profiled=profiled
    )
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
    profiled: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> SpeedRecord:
    """Time decoding on every side, and write the record after each round: unfinished, then whole.

    Args:
        settings: What to measure.
        output: File of the record.
        device: Where.
        command: For the record.
        profiled: Trace each side once its rounds are done.
        say: Told what is being done.

    Raises:
        GistbenchError: A model cannot be had, or the file not be written.
    """
    require_output(output, settings)
    place = "cuda:0" if device == "cuda" else "cpu"
    say(
        f"{output} is written after every round; "
        f"`gistbench speed show {shlex.quote(str(output))}` shows it, also when this was stopped"
    )
    say("measuring the device's own rates")
    rates = measure_rates(place, getattr(torch, settings.dtype))
    start = about(settings, command, place)
    in_all = settings.rounds * len(settings.sizes) * len(settings.precisions)
    rounds_done = 0
    whole: list[DecodingSpeed | SkippedSide] = []

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
        for found in measure_decoding(
            settings, models, quantization, rates, place, clock, profiled=profiled
        ):
            sides = (*whole, *found.sides)
            now_done = rounds_done + (settings.rounds if found.is_whole else found.rounds_done)
            unfinished: str | None = (
                f"stopped after {now_done} of {in_all} rounds, the last with {found.batch_size} "
                f"contexts, quantization {quantization}"
            )
            if found.is_whole:
                rounds_done = now_done
                whole.extend(found.sides)
                for side in found.sides:
                    size = f"{side.batch_size} contexts"
                    say(f"{side.arm}, {side.decoding}, {quantization}, {size}")
                if rounds_done == in_all:
                    unfinished = None
            record = SpeedRecord(
                **start,
                base=base,
                rates=rates,
                decoding=tuple(side for side in sides if isinstance(side, DecodingSpeed)),
                skipped=tuple(side for side in sides if isinstance(side, SkippedSide)),
                unfinished=unfinished,
            )
            write_json(output, record)
        models.clear()
        if device == "cuda":
            torch.cuda.empty_cache()
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
