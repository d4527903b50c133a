"""The page of criteria: CONCEPT.md's block as a table, and the rule that applies it."""

from __future__ import annotations

from docs.tools.markdown import code, page, table
from gistbench.report.criteria import Criterion, load_criteria

_ABOUT = """\
Fixed before results existed, in one block of [CONCEPT.md](../../CONCEPT.md), which also says how
each is measured. The block is what the program reads; no threshold stands in code.

**The rule.** A criterion passes only if its whole 95 % interval meets a threshold, fails only if
none of it does, and is inconclusive otherwise. What was not measured says NOT MEASURED. Only a pass
earns points; the score is their plain sum out of 100, never rescaled. A leak found by a control
keeps accuracy from passing
([what the verdicts mean](../explanation/numbers.md#verdicts-and-the-score))."""


def criteria_page() -> str:
    """The page's text."""
    block = load_criteria()
    rows = [
        (
            f"{criterion.title} ({code(criterion.id)})",
            criterion.metric,
            _thresholds(criterion),
            f"{criterion.weight:g}",
            _conditions(criterion),
        )
        for criterion in block.criteria
    ]
    header = ("criterion", "what is measured", "passes", "weight", "only with")
    return page("Criteria", _ABOUT, table(header, rows))


def _thresholds(criterion: Criterion) -> str:
    parts = []
    for bound in criterion.thresholds:
        text = f"{bound.kind} {criterion.format_bound(bound.value)}"
        named = text if bound.grade == "target" else f"{bound.grade}: {text}"
        whole = bound.share == 1
        parts.append(named if whole else f"{named} ({bound.share * criterion.weight:g} points)")
    return "; ".join(parts)


def _conditions(criterion: Criterion) -> str:
    held = criterion.conditions
    parts = [f"task {code(held.task)}"] if held.task else []
    parts += [f"{held.contexts} contexts held"] if held.contexts else []
    return ", ".join(parts)
