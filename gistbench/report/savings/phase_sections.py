"""Sections on the phases, the bytes of a context, and after how many questions it pays."""

from __future__ import annotations

from statistics import median

from gistbench.metrics import format_bytes, format_count, format_seconds
from gistbench.records import NotMeasured
from gistbench.report.savings.break_even import BreakEven, Rival, break_even
from gistbench.report.savings.card import PageSection
from gistbench.report.savings.corners import ARMS, number_of, phase_of
from gistbench.report.savings.naming import FULL_GIST, names_of
from gistbench.report.sections.figures import absent
from gistbench.report.sections.tables import Group, metric_table
from gistbench.report.shown import Figure
from gistbench.speed.savings_records import KeyValues, SavingsRecord

RIVALS: tuple[tuple[Rival, str], ...] = (
    ("kept", "against full context with its cache kept"),
    ("read again", "against reading the context again for every question"),
)


def phases(record: SavingsRecord) -> PageSection | None:
    """Time and memory of every phase."""
    tables = []
    for precision in record.precisions:
        if precision.phases is None:
            continue
        name = names_of(record)[precision.quantization]
        keys = dict.fromkeys((cost.phase, cost.contexts) for cost in precision.phases)
        groups: list[Group] = []
        for title, attribute, form in (
            ("seconds, median round", "round_seconds", format_seconds),
            ("allocated by torch, peak", "torch_allocated_bytes", format_bytes),
            ("reserved by torch, peak", "torch_reserved_bytes", format_bytes),
            ("device memory (NVML), peak", "device_bytes", format_bytes),
            ("energy of the device", "joules", lambda value: f"{value:,.3g} J"),
        ):
            rows = []
            for phase, contexts in keys:
                if phase == "steady" and attribute == "round_seconds":
                    continue
                cells = []
                for arm in ARMS:
                    cost = phase_of(precision, arm, phase, contexts)
                    value = getattr(cost, attribute) if cost else None
                    cells.append(_phase_cell(value, form))
                note = "while nothing runs" if phase == "steady" else ""
                if attribute == "joules":
                    note = "a second of it" if phase == "steady" else "the whole phase"
                rows.append((_phase_label(phase, contexts), cells, note))
            groups.append((title, rows))
        tables.append(metric_table(f"{name}: every phase", list(FULL_GIST), groups))
    if not tables:
        return None
    skipped = [text for precision in record.precisions for text in precision.skipped]
    settings = record.settings
    return PageSection(
        id="phases",
        title="Phase by phase",
        lead=(
            f"A context has {settings['context_tokens']:,} tokens, a question "
            f"{settings['question_tokens']:,}, an answer {settings['new_tokens']:,} behind its "
            "first token. Contexts are read one at a time and answered together. Memory is that "
            "of one arm alone on the device.",
            *(f"Skipped: {text}." for text in skipped),
        ),
        tables=tuple(tables),
    )


def _phase_label(phase: str, contexts: int) -> str:
    words = {
        "compress": "read a context",
        "steady": "hold {}",
        "question": "read the questions of {}",
        "decode": "decode the answers of {}",
    }
    return words[phase].format(number_of(contexts))


def _phase_cell(value: object, form: object) -> Figure:
    if isinstance(value, NotMeasured):
        return absent(value.not_measured)
    if value is None or value == ():
        return absent("both arms at once, whose times alternate, did not fit")
    if isinstance(value, tuple):
        middle = median(value)
        spread = f"{format_seconds(min(value))} to {format_seconds(max(value))}"
        return Figure(value=middle, text=format_seconds(middle), detail=spread, n=len(value))
    return Figure(value=float(value), text=str(form(value)))  # type: ignore[arg-type,operator]


def key_values(record: SavingsRecord) -> PageSection | None:
    """Predicted and measured, equal to the byte or not."""
    groups: list[Group] = []
    for precision in record.precisions:
        rows = [(item.arm, _byte_cells(item), "") for item in precision.key_values]
        if rows:
            groups.append((names_of(record)[precision.quantization], rows))
    if not groups:
        return None
    table = metric_table(
        "Keys and values of one context, in bytes",
        ["slots", "predicted", "measured", "equal", "grown in the allocator"],
        groups,
    )
    return PageSection(
        id="bytes",
        title="Keys and values, predicted and measured",
        lead=(
            "Predicted from the architecture; measured on the tensors that a read leaves; and what "
            "torch's allocator grew by for each of many stored contexts, which it hands out in "
            "multiples of 512 bytes.",
        ),
        tables=(table,),
    )


def _byte_cells(item: KeyValues) -> list[Figure]:
    grown = item.allocated_bytes
    return [
        Figure(value=item.slots, text=format_count(item.slots)),
        Figure(value=item.predicted_bytes, text=format_count(item.predicted_bytes)),
        Figure(value=item.measured_bytes, text=format_count(item.measured_bytes)),
        Figure(text="equal" if item.equal else "NOT EQUAL", badge="PASS" if item.equal else "FAIL"),
        absent(grown.not_measured)
        if isinstance(grown, NotMeasured)
        else Figure(value=grown, text=format_count(grown)),
    ]


def questions(record: SavingsRecord) -> PageSection | None:
    """After how many questions compressing once has paid."""
    groups: list[Group] = []
    sizes = [int(size) for size in record.settings["contexts"]]
    for precision in record.precisions:
        rows = []
        for size in sizes:
            cells = [_break_even_cell(break_even(precision, size, rival)) for rival, _ in RIVALS]
            label = f"{number_of(size)} answered together"
            rows.append((label, cells, ""))
        if precision.phases is not None:
            groups.append((names_of(record)[precision.quantization], rows))
    if not groups:
        return None
    table = metric_table(
        "Questions about one context from which compressing once has taken less time",
        [words for _, words in RIVALS],
        groups,
    )
    return PageSection(
        id="questions",
        title="After how many questions it pays",
        lead=(
            "Seconds alone; what is saved in memory comes on top. Interval: Fieller's, of the "
            "rounds.",
        ),
        tables=(table,),
    )


def _break_even_cell(found: BreakEven | NotMeasured) -> Figure:
    if isinstance(found, NotMeasured):
        return absent(found.not_measured)
    return Figure(
        value=found.questions, low=found.low, high=found.high, text=found.text, detail=found.detail
    )
