"""What a run measured for each criterion: a number with its interval, or the reason for none.

A measure knows nothing of thresholds. A new criterion adds a function to `MEASURES` under its id;
without one it is not measured, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from gistbench.metrics import compression_ratio, format_bytes
from gistbench.records import NotMeasured, SteadyState, ThroughputRound
from gistbench.report.controls import exact
from gistbench.report.criteria import Criterion
from gistbench.report.evidence import FULL, GIST, Evidence
from gistbench.report.measured import Measure, Measurement, unfit_task
from gistbench.report.quality import measure_hallucination, measure_understanding
from gistbench.report.shown import Line
from gistbench.report.statistics import (
    Estimate,
    log_ratios,
    mean,
    mean_n_needed,
    paired_ratio,
    wilson,
    wilson_n_needed,
)
from gistbench.report.validity import blocking_reason

REFERENCE = "full_bf16"
NUM_DEPTH_PARTS = 5


def measure(criterion: Criterion, evidence: Evidence) -> Measurement | NotMeasured:
    """Look for a criterion's measurement in a run."""
    found = MEASURES.get(criterion.id)
    if found is None:
        return NotMeasured(not_measured="no task measures it")
    return found(criterion, evidence)


def measure_compression(criterion: Criterion, evidence: Evidence) -> Measurement | NotMeasured:
    """Context tokens over gist tokens, per sample, over everything the gist arm read."""
    arm, samples = evidence.arm(GIST), evidence.judged_samples(GIST)
    if arm is None or not samples:
        return NotMeasured(not_measured="the run has no answers of a gist arm")
    if reason := evidence.incomplete(arm):
        return NotMeasured(not_measured=reason)
    ratios = []
    for sample in samples:
        if not sample.num_gists or sample.num_gists < 0:
            return NotMeasured(not_measured=f"sample {sample.sample_id[:80]} names no gist tokens")
        if sample.cache_tokens != sample.num_gists:
            return NotMeasured(
                not_measured=f"the cache of sample {sample.sample_id[:80]} held "
                f"{sample.cache_tokens:,} slots per layer, not its {sample.num_gists} gists"
            )
        ratios.append(compression_ratio(sample.context_tokens, sample.num_gists))
    gists = sorted({sample.num_gists or 0 for sample in samples})
    lengths = sorted({sample.context_tokens for sample in samples})
    return Measurement(
        estimate=mean(ratios),
        evidence=f"{_span(lengths)} context tokens to {_span(gists)} gists",
        counted="samples",
        needed=lambda threshold: mean_n_needed(ratios, threshold),
    )


def measure_passkey(criterion: Criterion, evidence: Evidence) -> Measurement | NotMeasured:
    """Strict exact match of the gist arm on the criterion's one task."""
    name = criterion.conditions.task or ""
    arm, task = evidence.arm(GIST), evidence.task(name)
    samples = evidence.samples(GIST, task) if task else ()
    if arm is None or task is None or not samples:
        return NotMeasured(not_measured=f"the run has no answers of a gist arm on task {name}")
    if reason := evidence.incomplete(arm, task):
        return NotMeasured(not_measured=reason)
    if reason := unfit_task(task):
        return NotMeasured(not_measured=reason)
    if reason := uneven_depths([sample.needle_depth for sample in samples]):
        return NotMeasured(not_measured=reason)
    hits, n = exact(samples), len(samples)
    found = wilson(hits, n)
    return Measurement(
        estimate=found,
        evidence=f"{hits:,} of {n:,} answers are the key and nothing else",
        counted="samples",
        needed=lambda threshold: wilson_n_needed(found.value, threshold),
        blocked=blocking_reason(evidence, evidence.label(task)),
    )


def uneven_depths(depths: list[float | None]) -> str | None:
    """Why needle depths do not cover the context; None when they do.

    Every fifth of the context must hold at least half of its fair share, and at least one.
    """
    counts = [0] * NUM_DEPTH_PARTS
    for depth in depths:
        if depth is None or not 0 <= depth <= 1:
            return "the needle's depth is not recorded for every sample"
        counts[min(int(depth * NUM_DEPTH_PARTS), NUM_DEPTH_PARTS - 1)] += 1
    if min(counts) < max(1, len(depths) // (2 * NUM_DEPTH_PARTS)):
        held = ", ".join(f"{count:,}" for count in counts)
        return f"needle depths are not spread over the context (samples in each fifth: {held})"
    return None


def measure_memory(criterion: Criterion, evidence: Evidence) -> Measurement | NotMeasured:
    """Share of allocated memory that gists save while many contexts are held."""
    pair = steady_pair(evidence, "steady_many")
    if isinstance(pair, NotMeasured):
        return pair
    gist, full = pair
    if reason := _other_length(evidence, gist.context_tokens):
        return NotMeasured(not_measured=f"contexts were held at another length: {reason}")
    wanted = criterion.conditions.contexts
    if wanted is not None and gist.contexts_held != wanted:
        return NotMeasured(
            not_measured=f"contexts held: {gist.contexts_held}, the criterion asks for {wanted}"
        )
    saved = 1 - gist.torch_allocated_bytes / full.torch_allocated_bytes
    return Measurement(
        estimate=Estimate(saved, saved, saved, 1),
        evidence=f"{format_bytes(gist.torch_allocated_bytes)} against "
        f"{format_bytes(full.torch_allocated_bytes)} with {gist.contexts_held} contexts of "
        f"{gist.context_tokens:,} tokens, weights included ({evidence.run.base.dtype}, "
        f"quantisation {evidence.run.base.quantization})",
        counted="exact reading",
        needed=lambda threshold: None,
    )


def _other_length(evidence: Evidence, context_tokens: int) -> str | None:
    """Why a merged run's figures at one length do not count at the judged one; None if they do."""
    judged = [sample.context_tokens for sample in evidence.judged_samples(GIST)]
    if not evidence.run.parts or (judged and min(judged) <= context_tokens <= max(judged)):
        return None
    return f"{context_tokens:,} tokens, and the run is judged at {evidence.judged_tokens:,}"


def steady_pair(evidence: Evidence, field: str) -> tuple[SteadyState, SteadyState] | NotMeasured:
    """The steady states of gist and full that may be compared, or why they may not."""
    states = []
    for name in (GIST, FULL):
        arm = evidence.arm(name)
        if arm is None:
            return NotMeasured(not_measured=f"the run has no arm {name}")
        state: SteadyState | NotMeasured = getattr(arm, field)
        if isinstance(state, NotMeasured):
            return NotMeasured(not_measured=f"{name}: {state.not_measured}")
        states.append(state)
    gist, full = states
    for quantity in ("contexts_held", "context_tokens"):
        one, two = getattr(gist, quantity), getattr(full, quantity)
        if one != two:
            words = quantity.replace("_", " ")
            return NotMeasured(not_measured=f"{words} differ: gist {one:,}, full {two:,}")
    if full.torch_allocated_bytes <= 0 or gist.torch_allocated_bytes <= 0:
        return NotMeasured(not_measured="torch reported no allocated memory")
    return gist, full


def memory_context(evidence: Evidence) -> tuple[Line, ...]:
    """What is always shown beside the memory verdict and never decides it."""
    one = steady_pair(evidence, "steady_one")
    if isinstance(one, NotMeasured):
        single = f"NOT MEASURED: {one.not_measured}"
    else:
        single = _against(one[0].torch_allocated_bytes, one[1].torch_allocated_bytes)
    peaks = []
    for name in (GIST, FULL):
        arm = evidence.arm(name)
        phases = arm.phases if arm else ()
        peaks.append(next((p for p in phases if p.phase == "compress"), None))
    gist, full = (phase.torch_allocated_peak_bytes if phase else None for phase in peaks)
    if isinstance(gist, int) and isinstance(full, int) and gist > 0 and full > 0:
        peak = _against(gist, full)
    else:
        missing = next((p for p in (gist, full) if isinstance(p, NotMeasured)), None)
        reason = missing.not_measured if missing else "no compress phase was recorded"
        peak = f"NOT MEASURED: {reason}"
    return (
        Line(label="One context", text=single),
        Line(label="Peak of the compress pass", text=peak),
        Line(label="NF4 gists against bf16 full context", text=_across_precisions(evidence)),
    )


def _across_precisions(evidence: Evidence) -> str:
    gist, reference = evidence.arm(GIST), evidence.arm(REFERENCE)
    if evidence.run.base.quantization != "nf4" or gist is None or reference is None:
        return "not measured in this run"
    one, two = gist.steady_many, reference.steady_many
    if isinstance(one, NotMeasured) or isinstance(two, NotMeasured):
        return "not measured in this run"
    if one.contexts_held != two.contexts_held or one.context_tokens != two.context_tokens:
        return "not measured in this run"
    return _against(one.torch_allocated_bytes, two.torch_allocated_bytes)


def _against(gist: int, full: int) -> str:
    saved = 100 * (1 - gist / full)
    words = f"{saved:.1f} % less" if saved >= 0 else f"{-saved:.1f} % more"
    return f"{format_bytes(gist)} against {format_bytes(full)} ({words})"


def measure_throughput(criterion: Criterion, evidence: Evidence) -> Measurement | NotMeasured:
    """Generated tokens per second, gist over full, in pairs of rounds that ran together."""
    rounds: list[dict[int, ThroughputRound]] = []
    for name in (GIST, FULL):
        arm = evidence.arm(name)
        if arm is None:
            return NotMeasured(not_measured=f"the run has no arm {name}")
        if isinstance(arm.throughput_rounds, NotMeasured):
            return NotMeasured(not_measured=f"{name}: {arm.throughput_rounds.not_measured}")
        indices = {found.round_index for found in arm.throughput_rounds}
        if len(indices) < len(arm.throughput_rounds):
            return NotMeasured(not_measured=f"{name} lists a timing round twice")
        rounds.append({found.round_index: found for found in arm.throughput_rounds})
    gist, full = rounds
    pairs = [(gist[index], full[index]) for index in sorted(gist.keys() & full.keys())]
    for one, two in pairs:
        if reason := _unlike(one, two, criterion.conditions.contexts):
            return NotMeasured(not_measured=f"round {one.round_index}: {reason}")
    if len(pairs) < 2:
        return NotMeasured(not_measured=f"{len(pairs)} paired rounds; at least 2 are needed")
    if reason := _other_length(evidence, pairs[0][0].context_tokens):
        return NotMeasured(not_measured=f"rounds ran at another length: {reason}")
    speeds = [[found.tokens_per_second for found in side] for side in zip(*pairs, strict=True)]
    logs = log_ratios(speeds[0], speeds[1])
    return Measurement(
        estimate=paired_ratio(speeds[0], speeds[1]),
        evidence=f"{len(pairs)} alternating rounds with {pairs[0][0].contexts} contexts of "
        f"{pairs[0][0].context_tokens:,} tokens",
        counted="pairs of rounds",
        needed=lambda threshold: mean_n_needed(logs, math.log(threshold)),
    )


def _unlike(one: ThroughputRound, two: ThroughputRound, wanted: int | None) -> str | None:
    """Why two rounds are no pair; None when they are."""
    if one.contexts != two.contexts or one.context_tokens != two.context_tokens:
        return (
            f"gist answered {one.contexts} contexts of {one.context_tokens:,} tokens, "
            f"full {two.contexts} of {two.context_tokens:,}"
        )
    if wanted is not None and one.contexts != wanted:
        return f"{one.contexts} contexts were answered, the criterion asks for {wanted}"
    for found in (one, two):
        if not (found.seconds > 0 and math.isfinite(found.seconds) and found.decode_steps > 0):
            return "no time or no decode steps were recorded"
    return None


def _span(values: list[int]) -> str:
    low, high = f"{values[0]:,}", f"{values[-1]:,}"
    return low if low == high else f"{low} to {high}"


MEASURES: Mapping[str, Measure] = {
    "compression_ratio": measure_compression,
    "passkey_accuracy": measure_passkey,
    "vram": measure_memory,
    "throughput": measure_throughput,
    "global_understanding": measure_understanding,
    "hallucination_rate": measure_hallucination,
}
