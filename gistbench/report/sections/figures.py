"""The figures of one arm: accuracy with intervals, and what the arm costs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from gistbench.metrics import GIB, METRICS, format_count, format_percent
from gistbench.records import ArmRecord, NotMeasured, SampleRecord, SteadyState, TaskRecord, Timing
from gistbench.report.card import ArmFigures
from gistbench.report.controls import CONTROLS, exact
from gistbench.report.evidence import Evidence, Samples
from gistbench.report.rates import balanced_accuracy
from gistbench.report.sections.columns import main_arms
from gistbench.report.shown import Figure
from gistbench.report.statistics import Estimate, mean, wilson

SCORES = ("exact_match", "contains", "digit_accuracy")
ABSENCE = ("balanced_accuracy", "none_on_absent", "key_on_absent", "none_on_present")
NO_SAMPLES = "no samples were answered"
NOWHERE = "not at the length at which this run is judged"

BUDGET_BYTES = 24 * GIB
"""Of a card that people have: how many contexts it could hold is worked out for this size."""

COST_METRICS = (
    "cache_tokens",
    "cache_bytes",
    "contexts_in_budget",
    "compress_seconds",
    "first_token_seconds",
    "decode_tokens_per_second",
    "throughput",
    "steady_one",
    "steady_many",
)

PHASE_SOURCES = {
    "torch_allocated_bytes": "torch_allocated_peak_bytes",
    "torch_reserved_bytes": "torch_reserved_peak_bytes",
    "device_used_bytes": "device_used_peak_bytes",
    "process_used_bytes": "process_used_peak_bytes",
    "resident_bytes": "resident_peak_bytes",
}


def absent(reason: str) -> Figure:
    """A figure that was not measured."""
    return Figure(text="not measured", not_measured=reason)


def rate_figure(hits: int, n: int) -> Figure:
    """A share of right answers with Wilson's interval."""
    return _estimated(wilson(hits, n), "Wilson")


def _estimated(found: Estimate, method: str) -> Figure:
    low, high = format_percent(max(0.0, found.low)), format_percent(min(1.0, found.high))
    return Figure(
        value=found.value,
        low=found.low,
        high=found.high,
        n=found.n,
        text=format_percent(found.value),
        detail=f"{method} {low} to {high}, n = {found.n:,}",
    )


def not_applicable(reason: str) -> Figure:
    """A figure that there cannot be, which is neither a failure nor a zero."""
    return Figure(text="N/A", not_measured=reason, not_applicable=True)


def arm_figures(evidence: Evidence) -> tuple[ArmFigures, ...]:
    """Every arm of the run with all its figures, also one that could take part at no length."""
    arms = []
    for name in evidence.arm_names:
        arm = evidence.arm(name)
        accuracy = {
            evidence.label(task): _unanswered(evidence, name, task)
            or _accuracy(evidence.samples(name, task))
            for task in evidence.run.tasks
        }
        judged = evidence.judged_tasks[:1]
        reason = next((r for t in judged if (r := evidence.not_applicable(name, t))), None)
        if arm is None or reason is not None:
            cost = dict.fromkeys(COST_METRICS, not_applicable(reason or NOWHERE))
        else:
            cost = _cost(arm, evidence.judged_samples(name))
        arms.append(
            ArmFigures(
                name=name,
                description=arm.description if arm else f"not applicable: {reason or NOWHERE}",
                weights=arm.weights if arm else "not loaded",
                trained_on=", ".join(arm.trained_on) if arm else "",
                complete=arm is None or evidence.incomplete(arm) is None,
                accuracy=accuracy,
                cost=cost,
                main=name in main_arms(evidence),
            )
        )
    return tuple(arms)


def _unanswered(evidence: Evidence, arm: str, task: TaskRecord) -> dict[str, Figure] | None:
    """Why an arm has no rates on a task, in their place; None where it has some."""
    if reason := evidence.not_applicable(arm, task):
        found = not_applicable(reason)
    elif evidence.samples(arm, task):
        return None
    elif evidence.was_asked(arm, task):
        found = absent(NO_SAMPLES)
    else:
        found = absent("this arm was not run on this task")
    return dict.fromkeys(SCORES, found)


def _accuracy(samples: Samples) -> dict[str, Figure]:
    n = len(samples)
    contains = [score for s in samples if (score := s.scores.get("contains")) is not None]
    digits = [score for s in samples if (score := s.scores.get("digit_accuracy")) is not None]
    loose = absent("not scored")
    if contains and all(score in (0.0, 1.0) for score in contains):
        loose = rate_figure(round(sum(contains)), len(contains))
    per_digit = absent("not scored for at least two samples")
    if found := mean(digits):
        per_digit = _estimated(found, "t interval")
    return {
        "exact_match": rate_figure(exact(samples), n),
        "contains": loose,
        "digit_accuracy": per_digit,
        **_absence(samples),
    }


def _absence(samples: Samples) -> dict[str, Figure]:
    """Balanced accuracy and its rates, where some documents hold no answer and say so."""
    if any("said_none" not in sample.scores for sample in samples):
        return {}
    holding = [sample for sample in samples if sample.needle_depth is not None]
    empty = [sample for sample in samples if sample.needle_depth is None]
    if not holding or not empty:
        return dict.fromkeys(ABSENCE, absent("needs samples with a key and samples without one"))

    def rate(found: Sequence[SampleRecord], score: str) -> Figure:
        return rate_figure(sum(s.scores[score] == 1 for s in found), len(found))

    balanced = balanced_accuracy(
        exact(tuple(holding)), len(holding), exact(tuple(empty)), len(empty)
    )
    return {
        "balanced_accuracy": _estimated(balanced, "MOVER"),
        "none_on_absent": rate(empty, "said_none"),
        "key_on_absent": rate(empty, "stated_key"),
        "none_on_present": rate(holding, "said_none"),
    }


def batch_timings(samples: Iterable[SampleRecord]) -> list[Timing]:
    """One timing for each batch, as a whole: its samples share it."""
    return [t for t in dict.fromkeys(s.timing for s in samples) if isinstance(t, Timing)]


def _cost(arm: ArmRecord, samples: Samples) -> dict[str, Figure]:
    timings = batch_timings(samples)
    untimed = next((s.timing for s in samples if isinstance(s.timing, NotMeasured)), None)
    found = {
        "cache_tokens": _median("cache_tokens", [s.cache_tokens for s in samples], samples),
        "cache_bytes": _median("cache_bytes", [s.cache_bytes for s in samples], samples),
        "contexts_in_budget": _contexts_in_budget(arm, samples),
        "compress_seconds": _median(
            "compress_seconds",
            [t.compress_seconds for t in timings if t.compress_seconds is not None],
            samples,
            untimed.not_measured if untimed else "this arm reads no context of its own",
        ),
        "first_token_seconds": _median(
            "first_token_seconds",
            [t.first_token_seconds for t in timings],
            samples,
            untimed.not_measured if untimed else NO_SAMPLES,
        ),
        "decode_tokens_per_second": _median(
            "decode_tokens_per_second",
            [
                t.decode_steps / t.decode_seconds
                for t in timings
                if t.decode_steps > 0 and t.decode_seconds > 0
            ],
            samples,
            untimed.not_measured if untimed else "no answer was longer than one token",
        ),
        "throughput": _throughput(arm),
        "steady_one": _steady(arm.steady_one),
        "steady_many": _steady(arm.steady_many),
    }
    return {name: found[name] for name in COST_METRICS}


def _median(
    metric: str,
    values: Sequence[float],
    samples: Sequence[SampleRecord],
    reason: str = NO_SAMPLES,
) -> Figure:
    if not values:
        return absent(reason if samples else NO_SAMPLES)
    show: Callable[[float], str] = METRICS[metric].format
    middle, n = statistics.median(values), len(values)
    low, high = min(values), max(values)
    if low == high:
        detail = f"the same in all n = {n:,}"
    else:
        first, _, third = statistics.quantiles(values, n=4, method="inclusive")
        low, high = first, third
        detail = f"median; quartiles {show(first)} to {show(third)}, n = {n:,}"
    batch = max((s.timing.batch_size for s in samples if isinstance(s.timing, Timing)), default=1)
    if metric.endswith(("_seconds", "_per_second")) and batch > 1:
        detail += f" batches of up to {batch} samples, each timed as a whole"
    return Figure(value=middle, low=low, high=high, n=n, text=show(middle), detail=detail)


def _contexts_in_budget(arm: ArmRecord, samples: Sequence[SampleRecord]) -> Figure:
    """By arithmetic: what the weights leave of the budget, over the cache of a context."""
    size = statistics.median(sample.cache_bytes for sample in samples) if samples else 0
    left = BUDGET_BYTES - arm.weights_bytes
    if arm.name in CONTROLS:
        return not_applicable("a control: it judges other arms")
    if size <= 0:
        return absent("this arm keeps nothing of a context" if samples else NO_SAMPLES)
    if left < 0:
        return not_applicable("the weights alone are larger")
    return Figure(
        value=left // size,
        text=format_count(left // size),
        detail="by arithmetic; nothing is set aside for activations or CUDA itself",
    )


def _throughput(arm: ArmRecord) -> Figure:
    rounds = arm.throughput_rounds
    if isinstance(rounds, NotMeasured):
        return absent(rounds.not_measured)
    timed = [found for found in rounds if found.seconds > 0]
    if not timed:
        return absent("no timing rounds were recorded")
    speeds = [found.tokens_per_second for found in timed]
    contexts = "/".join(str(count) for count in sorted({found.contexts for found in timed}))
    show = METRICS["throughput"].format
    return Figure(
        value=statistics.median(speeds),
        low=min(speeds),
        high=max(speeds),
        n=len(speeds),
        text=show(statistics.median(speeds)),
        detail=f"median of {len(speeds)} rounds, {contexts} contexts; "
        f"{show(min(speeds))} to {show(max(speeds))}",
    )


def _steady(state: SteadyState | NotMeasured) -> Figure:
    if isinstance(state, NotMeasured):
        return absent(state.not_measured)
    show = METRICS["torch_allocated_bytes"].format
    plural = "s" if state.contexts_held != 1 else ""
    return Figure(
        value=state.torch_allocated_bytes,
        n=1,
        text=show(state.torch_allocated_bytes),
        detail=f"{state.contexts_held} context{plural} of {state.context_tokens:,} tokens; "
        f"of it keys and values {show(state.cache_bytes)}",
    )
