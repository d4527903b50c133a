"""The page of what a run leaves behind: every field of its three files."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel

from docs.tools.configuration import type_text
from docs.tools.docstrings import attributes, parsed, prose
from docs.tools.markdown import code, page, table
from gistbench import records
from gistbench.judgements import JUDGE_FILE, Judgement
from gistbench.storage import MEMORY_FILE, PACKED_SUFFIX, RUN_FILE, SAMPLES_FILE

_ABOUT = f"""\
A run directory holds three files of records, and everything that a scorecard says is computed from
them. Sizes are integer bytes, times are seconds, lengths are tokens of the evaluated model. A
number that was not measured is `{{"not_measured": REASON}}` and never 0. Unknown fields are refused
when a file is read.

| file | holds |
|---|---|
| `{RUN_FILE}` | one [RunRecord](#runrecord) |
| `{SAMPLES_FILE}` | a [SampleRecord](#samplerecord) a line, one for each arm and sample |
| `{MEMORY_FILE}` | a [MemoryRecord](#memoryrecord) a line: one for each tick of the sampler |
| `{JUDGE_FILE}` | a [Judgement](#judgement) a line, after `gistbench judge` |

The two JSONL files of a run may be packed (`{SAMPLES_FILE}{PACKED_SUFFIX}`); every command reads
both."""

FILES: tuple[type[BaseModel], ...] = (
    records.RunRecord,
    records.SampleRecord,
    records.MemoryRecord,
    Judgement,
)
"""The records that files hold; those inside them follow."""


def records_page() -> str:
    """The page's text."""
    parts = []
    for record in _all():
        about = prose(parsed(record).short_description)
        more = prose(parsed(record).long_description)
        parts += [f"## {record.__name__}", about, *([more] if more else []), _table(record)]
    return page("Records of a run", _ABOUT, *parts)


def _all() -> list[type[BaseModel]]:
    """The files' records, then whatever stands in their fields, each once."""
    found = list(FILES)
    for record in found:
        for info in record.model_fields.values():
            names = type_text(info.annotation)
            for other in vars(records).values():
                if _is_record(other) and re.search(rf"\b{other.__name__}\b", names):
                    found += [other] if other not in found else []
    return found


def _table(record: type[BaseModel]) -> str:
    told = attributes(record)
    rows = [
        (code(name), _linked(info.annotation), told.get(name) or info.description or "")
        for name, info in record.model_fields.items()
    ]
    return table(("field", "type", "what it is"), rows)


def _linked(kind: Any) -> str:
    """A type whose records link to their sections."""
    names = {record.__name__ for record in vars(records).values() if _is_record(record)}
    return re.sub(
        r"\b[A-Z]\w+\b",
        lambda found: f"[{found[0]}](#{found[0].lower()})" if found[0] in names else found[0],
        type_text(kind),
    )


def _is_record(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, records.Record)
