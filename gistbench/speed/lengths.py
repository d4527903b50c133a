"""`gistbench speed lengths`: long contexts, read at once, in chunks and in segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gistbench.errors import UsageError
from gistbench.models.memory import OUT_OF_MEMORY, is_out_of_memory
from gistbench.models.random_weights import random_ids
from gistbench.models.reading import segment_lengths
from gistbench.models.reading_cost import ReadingCost, measured_read
from gistbench.records import Count, NotMeasured
from gistbench.speed.arm_model import ArmModel, load_arm
from gistbench.speed.meter import NO_GPU
from gistbench.speed.run import about, described_base
from gistbench.speed.savings_records import (
    LengthsRecord,
    LongRead,
    PrecisionReads,
    SkippedRead,
    Way,
)
from gistbench.speed.savings_settings import LengthsConfig
from gistbench.speed.subject import let_go, require_positions
from gistbench.storage import check_writable, write_json

LENGTHS_FILE = "lengths.json"


@dataclass(slots=True)
class Reads:
    """One way at one length, and what its rounds took."""

    way: Way
    costs: list[ReadingCost] = field(default_factory=list)
    kept_slots: int = 0
    reason: str | None = None


def measure_lengths(
    settings: LengthsConfig,
    folder: Path,
    *,
    device: Literal["cpu", "cuda"],
    command: str,
    say: Callable[[str], None] = lambda _: None,
) -> LengthsRecord:
    """Read contexts of every length in every way, all ways of a length in turn.

    The record is written after each length, so that what was measured stays.

    Raises:
        UsageError: The model has too few positions for the longest, or the folder holds a record.
        GistbenchError: A model cannot be had, or the folder not be written.
    """
    if (folder / LENGTHS_FILE).exists():
        raise UsageError(f"{folder / LENGTHS_FILE} is there already; name another --output")
    check_writable(folder)
    place = "cuda:0" if device == "cuda" else "cpu"
    start: dict[str, Any] = about(settings, command, place)
    finished: tuple[PrecisionReads, ...] = ()
    record: LengthsRecord | None = None
    for quantization in settings.precisions:
        say(f"loading, quantization {quantization}")
        model = load_arm(settings, "gist", quantization, place)
        gists = len(model.gist_ids)
        longest = settings.sizes[-1]
        segments = len(segment_lengths(longest, settings.segment_tokens))
        more = gists * (segments if "segments" in settings.chosen else 1)
        require_positions(model, longest + more, settings.weights == "random", "--lengths")
        here = PrecisionReads(quantization=quantization)
        for num_tokens in settings.sizes:
            for found in _in_turn(settings, model, num_tokens, place):
                say(f"{num_tokens:,} tokens, {found.way}, {quantization}: {found.reason or 'read'}")
                here = _with(here, num_tokens, found)
            record = LengthsRecord(
                **start, base=described_base(model), precisions=(*finished, here)
            )
            write_json(folder / LENGTHS_FILE, record)
        finished = (*finished, here)
        del model
        let_go(place)
    assert record is not None
    return record


def _in_turn(
    settings: LengthsConfig, model: ArmModel, num_tokens: int, place: str
) -> Iterator[Reads]:
    """A round that does not count, then those that do; every other one in the reverse order."""
    context = random_ids(num_tokens, model.base.num_text_tokens, settings.seed)
    found = [Reads(way) for way in settings.chosen]
    for number in range(settings.rounds + 1):
        for reads in found if number % 2 else reversed(found):
            if reads.reason is not None:
                continue
            try:
                cost, kept = _read(settings, model, context, reads.way)
            except OUT_OF_MEMORY as error:
                if not is_out_of_memory(error):
                    raise
                reads.reason = f"{num_tokens:,} tokens read {reads.way} do not fit on this GPU"
            else:
                reads.kept_slots = kept
                reads.costs += [cost] if number else []
            let_go(place)
    yield from found


def _read(
    settings: LengthsConfig, model: ArmModel, context: list[int], way: Way
) -> tuple[ReadingCost, int]:
    cache, cost = measured_read(
        model.model,
        context,
        gist_ids=model.gist_ids,
        segmented=model.segmented,
        segment_tokens=settings.segment_tokens if way == "segments" else None,
        chunk_tokens=settings.chunk_tokens if way == "chunked" else None,
    )
    return cost, cache.num_slots


def _with(here: PrecisionReads, num_tokens: int, found: Reads) -> PrecisionReads:
    """The reads so far and one more, or why there is not."""
    if found.reason is not None:
        skipped = SkippedRead(
            way=found.way,
            context_tokens=num_tokens,
            reason=NotMeasured(not_measured=found.reason),
        )
        return here.model_copy(update={"skipped": (*here.skipped, skipped)})
    read = LongRead(
        way=found.way,
        context_tokens=num_tokens,
        kept_slots=found.kept_slots,
        round_seconds=tuple(cost.seconds for cost in found.costs),
        peak_bytes=_most([cost.peak_bytes for cost in found.costs]),
        needed_bytes=_most([cost.needed_bytes for cost in found.costs]),
    )
    return here.model_copy(update={"reads": (*here.reads, read)})


def _most(values: list[int | None]) -> Count:
    counted = [value for value in values if value is not None]
    return max(counted) if counted else NO_GPU
