"""The page of tasks: what each hides and asks, its chance floor and its bits."""

from __future__ import annotations

from docs.tools.markdown import code, page, table
from gistbench import generators, ruler
from tasks import documents, plans

INDICES = 4
"""Samples that are looked at for their bits; what alternates does so from one to the next."""

ASKS = {
    "document_topic": "which of four themes the document is mostly about; no sentence says so",
    "niah_absent": "a key; every second document hides none, and `none` is then right",
    "niah_all_values_4": "four keys, in the order of the text",
    "niah_digits_10": "a key of 10 digits",
    "niah_digits_20": "a key of 20 digits",
    "niah_digits_40": "a key of 40 digits",
    "niah_labelled_2": "one of two keys, each of its city",
    "niah_labelled_4": "one of four keys, each of its city",
    "niah_labelled_8": "one of eight keys, each of its city",
    "niah_passkey": "the one key, five digits",
    "niah_passkey_ko": "the same in Korean",
    "niah_passkey_prose": "the one key in prose that people wrote",
    "niah_passkey_wordings": "the one key; needle and question share no content word",
    "niah_stray_number": "a number in an ordinary sentence; only its five digits mark it",
    "niah_two_questions": "a key and a city of one document, in turn",
    "niah_update": "the later of two keys",
    "niah_uuid": "32 hexadecimal digits",
    "own_jsonl": "a user's own questions",
    "word_frequency": "which coded word occurs most often",
}

LENGTH = 1000
"""Of the documents whose plan depends on it; their bits do not."""

_ABOUT = """\
`--tasks` names tasks or groups, separated by commas. Every document has exactly
`--context-tokens` tokens of the evaluated model. [tasks/README.md](../../tasks/README.md) says how
samples are made and how plain lm-eval runs them."""

_COLUMNS = """\
**Chance floor**: the rate of the best guess without the document, from the task's YAML.
**Bits**: what an exactly right answer tells of the document to someone who knows the task, and what
[recovered bits](../explanation/numbers.md#recovered-bits) count. Two figures belong to tasks whose
samples alternate. **Trained on**: whether training may draw from the task; `never` keeps it a test
of what training did not show."""

_ENDS = """\
A version is raised by every change that alters a prompt of validation or test. Answers are
generated greedily up to one of these strings, or to so many tokens."""

_RULER = """\
lm-eval ships these, and every arm runs them unchanged: the same YAML, documents, prompts and
scoring. They need `pip install -e ".[ruler]"`. `--context-tokens` is for them a bound on prompt and
answer together. Their chance floor is not declared and counted as 0. `exact_match` means here that
{meaning}; `string_match_all` stays beside it. They are never trained on."""


def tasks_page() -> str:
    """The page's text."""
    rows = []
    for name in generators.task_names():
        metadata = generators.task_definition(name)["metadata"]
        trained = "train" in metadata.get("splits", ["train"])
        rows.append(
            (
                code(name),
                ASKS[name],
                generators.language(name),
                _floor(metadata["chance_floor"]),
                _bits(name),
                "yes" if trained else "never",
            )
        )
    groups = [
        (code(name), ", ".join(map(code, members)))
        for name, members in generators.task_groups().items()
    ]
    foreign = [
        (code(task.name), "essays that it downloads" if task.needs_essays else "")
        for task in ruler.TASKS.values()
    ]
    header = ("task", "asks for", "language", "chance floor", "bits", "trained on")
    answers = [
        (
            code(name),
            str(generators.task_definition(name)["metadata"]["version"]),
            _stops(name),
            str(generators.task_definition(name)["generation_kwargs"]["max_gen_toks"]),
        )
        for name in generators.task_names()
    ]
    return page(
        "Tasks",
        _ABOUT,
        table(header, rows),
        _COLUMNS,
        "## Groups",
        table(("group", "tasks"), sorted(groups)),
        "## Versions, and where an answer ends",
        _ENDS,
        table(("task", "version", "ends at", "tokens at most"), answers),
        "## RULER",
        _RULER.format(meaning=ruler.MEANING),
        table(("task", "needs besides"), foreign),
    )


def _stops(name: str) -> str:
    return " ".join(code(repr(stop)[1:-1]) for stop in generators.stop_strings(name))


def _floor(value: float) -> str:
    return "not known" if value == 0 else f"{value:.3g}"


def _bits(name: str) -> str:
    """Bits of the first samples' answers, as the generator states them."""
    if name == generators.OWN_DATA:
        return "not known"
    made = sorted({round(_entropy(name, index), 1) for index in range(INDICES)})
    return " or ".join(f"{bits:g}" for bits in made)


def _entropy(name: str, index: int) -> float:
    kind = plans.TASKS[name]
    if kind.form in ("topic", "frequency"):
        return documents.plan_document(kind, "test", name, index, LENGTH, redraw=0).entropy_bits
    return plans.plan_sample(name, kind, "test", name, index, 0, 0.5, redraw=0).entropy_bits
