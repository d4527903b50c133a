"""What each arm costs in each run, and the ratio to the reference where one may be formed.

Slots and bytes of the cache are counted, so they can be divided wherever the lengths are the same.
Times and memory depend on the device and on how much ran at once: where that is not the same, there
is no ratio. One run against one run shows no speed-up: no ratio here is a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gistbench.metrics import METRICS, format_ratio
from gistbench.records import ArmRecord, NotMeasured, SteadyState
from gistbench.report.compare.differing import devices
from gistbench.report.compare.pairing import ArmPair, is_main
from gistbench.report.compare.sides import Side
from gistbench.report.controls import CONTROLS
from gistbench.report.sections.figures import COST_METRICS, not_applicable
from gistbench.report.sections.tables import COST_LABELS, Group, TableRow, metric_table
from gistbench.report.shown import Figure, MetricTable

MEDIANS = ("compress_seconds", "first_token_seconds", "decode_tokens_per_second")
CAPTION = "Cost at the length at which each run is judged, and its ratio to the reference"

Fault = str | None


def cost_tables(
    sides: Sequence[Side], pairs: Sequence[ArmPair]
) -> tuple[tuple[MetricTable, ...], tuple[MetricTable, ...]]:
    """Costs side by side.

    Returns:
        A table of the main arms, and one for each of the others.
    """
    judged = [pair for pair in pairs if pair.arm not in CONTROLS]
    main = [pair for pair in judged if is_main(pair, pairs)]
    columns = [sides[0].label]
    for side in sides[1:]:
        columns += [side.label, "ratio" if len(sides) == 2 else f"ratio of {side.label}"]

    def table(chosen: Sequence[ArmPair], caption: str) -> MetricTable:
        groups: list[Group] = [(pair.title, _rows(sides, pair)) for pair in chosen]
        return metric_table(caption, columns, groups)

    rest = tuple(
        table([pair], f"{pair.title}: {CAPTION.lower()}") for pair in judged if pair not in main
    )
    return ((table(main, CAPTION),) if main else ()), rest


def _rows(sides: Sequence[Side], pair: ArmPair) -> list[TableRow]:
    rows: list[TableRow] = []
    for metric in COST_METRICS:
        cells = [_cost(sides[0], pair.reference, metric)]
        for side in sides[1:]:
            ratio = cost_ratio(sides[0], pair.reference, side, pair.arm, metric)
            cells += [_cost(side, pair.arm, metric), ratio]
        rows.append((COST_LABELS.get(metric) or METRICS[metric].label, cells, ""))
    return rows


def _cost(side: Side, arm: str, metric: str) -> Figure:
    figures = side.figures.get(arm)
    return figures.cost[metric] if figures else not_applicable(f"{side.label} has no arm {arm}")


def cost_ratio(reference: Side, reference_arm: str, side: Side, arm: str, metric: str) -> Figure:
    """A cost over the reference's; not applicable, with the reason, where they are not alike."""
    before, after = _cost(reference, reference_arm, metric), _cost(side, arm, metric)
    if before.value is None or after.value is None:
        return not_applicable("no ratio: not measured in both runs")
    conditions = _CONDITIONS.get(metric, _counted)
    if fault := conditions(reference, reference_arm, side, arm):
        return not_applicable(f"no ratio: {fault}")
    if before.value <= 0:
        return not_applicable("no ratio: the reference's is 0")
    value = after.value / before.value
    detail = "of medians, one run each" if metric in (*MEDIANS, "throughput") else ""
    return Figure(value=value, text=format_ratio(value), detail=detail)


def _counted(reference: Side, reference_arm: str, side: Side, arm: str) -> Fault:
    """What a count needs: contexts of the same length."""
    one, two = reference.evidence.judged_tokens, side.evidence.judged_tokens
    return None if one == two else f"contexts of {one or 0:,} tokens there and {two or 0:,} here"


def _timed(reference: Side, reference_arm: str, side: Side, arm: str) -> Fault:
    """What a time needs besides: the same device and tasks, and as many samples at once."""
    if fault := _device(reference, side) or _counted(reference, reference_arm, side, arm):
        return fault
    asked = [{task.name for task in found.evidence.judged_tasks} for found in (reference, side)]
    if asked[0] != asked[1]:
        return "a median over the samples of other tasks"
    one, two = reference.batch_sizes[reference_arm], side.batch_sizes[arm]
    return None if one == two else f"batches of {one} there and of {two} here"


def _rounds(reference: Side, reference_arm: str, side: Side, arm: str) -> Fault:
    """What throughput needs: the same device, and rounds of the same contexts."""
    if fault := _device(reference, side):
        return fault
    shapes = []
    for found, name in ((reference, reference_arm), (side, arm)):
        rounds = _arm(found, name).throughput_rounds
        timed = () if isinstance(rounds, NotMeasured) else rounds
        shapes.append(sorted({(one.contexts, one.context_tokens) for one in timed}))
    return None if shapes[0] == shapes[1] else f"{_held(shapes[0])} there, {_held(shapes[1])} here"


def _steady(field: str) -> Callable[[Side, str, Side, str], Fault]:
    """What memory in the steady state needs: the same device, and the same contexts held."""

    def fault(reference: Side, reference_arm: str, side: Side, arm: str) -> Fault:
        if found := _device(reference, side):
            return found
        shapes = []
        for one, name in ((reference, reference_arm), (side, arm)):
            state: SteadyState | NotMeasured = getattr(_arm(one, name), field)
            assert isinstance(state, SteadyState)  # it has a value
            shapes.append([(state.contexts_held, state.context_tokens)])
        if shapes[0] == shapes[1]:
            return None
        return f"{_held(shapes[0])} held there, {_held(shapes[1])} here"

    return fault


def _device(reference: Side, side: Side) -> Fault:
    one, two = devices(reference), devices(side)
    if one != two or len(one) > 1:
        return f"it depends on the device, {_listed(one)} there and {_listed(two)} here"
    cores = [found.evidence.run.provenance.num_cpu_cores for found in (reference, side)]
    on_cpu = reference.evidence.run.provenance.device.startswith("cpu")
    return (
        f"{cores[0]} CPU cores there and {cores[1]} here" if on_cpu and len({*cores}) > 1 else None
    )


def _arm(side: Side, name: str) -> ArmRecord:
    found = side.evidence.arm(name)
    assert found is not None  # it has a cost
    return found


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


def _held(shapes: Sequence[tuple[int, int]]) -> str:
    words = [f"{n:,} context{'' if n == 1 else 's'} of {tokens:,} tokens" for n, tokens in shapes]
    return " and ".join(words) or "no contexts"


_CONDITIONS: Mapping[str, Callable[[Side, str, Side, str], Fault]] = {
    **dict.fromkeys(MEDIANS, _timed),
    "throughput": _rounds,
    "steady_one": _steady("steady_one"),
    "steady_many": _steady("steady_many"),
}
