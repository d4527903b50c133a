"""A speed record as tables for a terminal. Computes nothing, imports no torch."""

from __future__ import annotations

from rich.table import Column, Table

from gistbench.metrics import format_bytes, format_percent, format_rate, format_seconds
from gistbench.records import NotMeasured
from gistbench.speed.records import Profile, SpeedRecord

MISSING = "not measured"


def tables(record: SpeedRecord) -> list[Table]:
    """What was measured, beside its floors."""
    rates = record.rates
    about = Table("", "measured", title=f"{record.base.name} on {record.provenance.device_name}")
    about.add_row(
        "matrix product", f"{rates.matrix_operations_per_second / 1e12:,.3g} TFLOP/s "
        f"({rates.matrix_dtype}, {rates.matrix_size} square)",
    )  # fmt: skip
    about.add_row("copy, read and write", f"{rates.copy_bytes_per_second / 1e9:,.4g} GB/s")
    about.add_row("accuracy", f"{MISSING}: {record.accuracy.not_measured}")
    if record.unfinished is not None:
        about.add_row("UNFINISHED", record.unfinished)
    made = [about]
    if record.training is not None:
        made.append(_training(record))
        if record.training.profile is not None:
            made.append(_profile(record.training.profile, "a training step"))
    if record.decoding or record.skipped:
        made.append(_decoding(record))
    for side in record.decoding:
        if side.profile is not None:
            precision = _precision(side.quantization, record)
            of = f"{side.arm}, {side.decoding}, {precision}, {side.batch_size} contexts"
            made.append(_profile(side.profile, f"a decoding step: {of}"))
    return made


def _profile(profile: Profile | NotMeasured, step: str) -> Table:
    """Where its time went, group by group."""
    columns = (
        Column("kernels"),
        *(Column(name, justify="right") for name in ("share", "seconds a step", "launches a step")),
    )
    table = Table(*columns, title=f"where the time went, {step}", padding=(0, 0, 0, 0))
    if isinstance(profile, NotMeasured):
        table.caption = f"{MISSING}: {profile.not_measured}"
        return table
    table.columns[0].header = profile.traced
    for group in profile.groups:
        table.add_row(
            group.name,
            format_percent(group.share),
            format_seconds(group.seconds_per_step),
            f"{group.launches_per_step:,.4g}",
        )
    traced = f"a traced step, {format_seconds(profile.seconds_per_step)}"
    idle = _shown(profile.idle_share, format_percent)
    table.caption = f"{traced}; device idle in it: {idle}"
    return table


def _training(record: SpeedRecord) -> Table:
    speed = record.training
    assert speed is not None
    table = Table("training", "measured", title=f"{speed.preset}, {speed.quantization}")
    rows = {
        "seconds a step": format_seconds(speed.seconds_per_step),
        "slowest, fastest": ", ".join(
            format_seconds(pick(speed.step_seconds)) for pick in (max, min)
        ),
        "tokens": f"{speed.tokens_per_step:,} a step, {format_rate(speed.tokens_per_second)}",
        "batch": f"{speed.accumulation} x {speed.micro_batch} x {speed.context_tokens:,} context "
        f"tokens, recompute {'on' if speed.gradient_checkpointing else 'off'}",
        "fused kernels": "liger-kernel" if speed.fused_kernels else "none",
        "processes": f"{speed.processes}",
        "floor": _shown(speed.floor_seconds, format_seconds),
        "share of it": _shown(speed.share_of_floor, format_percent),
        "floor with recompute": _shown(speed.floor_seconds_with_recompute, format_seconds),
        "share of that": _shown(speed.share_of_floor_with_recompute, format_percent),
        "allocated by torch, peak": _shown(speed.torch_allocated_peak_bytes, format_bytes),
        "reserved by torch, peak": _shown(speed.torch_reserved_peak_bytes, format_bytes),
        "device memory (NVML), peak": _shown(speed.device_used_peak_bytes, format_bytes),
        "managed memory": format_bytes(speed.managed_bytes),
        "trainable parameters": f"{speed.trainable_parameters:,}",
        "checkpoint": format_bytes(speed.checkpoint_bytes),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _decoding(record: SpeedRecord) -> Table:
    names = ("weights", "contexts", "arm", "loop", "tokens/s", "a step", "floor", "share", "same")
    columns = (Column(name, no_wrap=True) for name in names)
    table = Table(*columns, title="decoding, sides in turn", padding=(0, 0, 0, 0))
    for side in record.decoding:
        table.add_row(
            _precision(side.quantization, record),
            str(side.batch_size),
            side.arm,
            side.decoding,
            f"{side.tokens_per_second:,.1f}",
            format_seconds(side.seconds_per_step),
            _shown(side.floor_seconds_per_step, format_seconds),
            _shown(side.share_of_floor, format_percent),
            _shown(side.same_rows_share, format_percent),
        )
    for missing in record.skipped:
        precision = _precision(missing.quantization, record)
        size = str(missing.batch_size)
        table.add_row(precision, size, missing.arm, missing.decoding, MISSING, "", "", "", "")
    reasons = dict.fromkeys(missing.reason.not_measured for missing in record.skipped)
    table.caption = "; ".join(["same: rows with the eager loop's tokens", *reasons])
    return table


def _precision(quantization: str, record: SpeedRecord) -> str:
    short = {"bfloat16": "bf16", "float32": "fp32"}
    return short[record.base.dtype] if quantization == "none" else quantization


def _shown(value: float | NotMeasured, form: object) -> str:
    return MISSING if isinstance(value, NotMeasured) else str(form(value))  # type: ignore[operator]
