"""The scorecard record as an HTML page and as Markdown. Templates print; they never compute."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gistbench.report.card import Scorecard
from gistbench.report.page.charts import depth_chart, latency_chart, memory_chart
from gistbench.report.page.ladder_charts import bits_chart, tradeoff_chart
from gistbench.report.page.scripts import page_script
from gistbench.report.page.visible_text import visible

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~#$])")


def html_page(card: Scorecard) -> str:
    """One self-contained file: no network, charts inline, nothing that needs its script."""
    return fill_html(
        "scorecard.html.j2",
        card=card,
        script=page_script("scorecard.js"),
        depth_charts=[
            Markup(depth_chart(table, f"depth{number}") if table.open else "")
            for number, table in enumerate(card.depth)
        ],
        tradeoff_chart=Markup(tradeoff_chart(card.tradeoff, "tradeoff")),
        bits_chart=Markup(bits_chart(card.bits, "bits")),
        latency_chart=Markup(latency_chart(card.latency, "latency")),
        memory_chart=Markup(memory_chart(card.memory, "memory")),
    )


def markdown_page(card: Scorecard) -> str:
    """The same figures for a pull request or a model card."""
    return fill_markdown("scorecard.md.j2", card=card)


def fill_html(template: str, **values: object) -> str:
    """A page of HTML: whatever it prints is made visible and escaped, but for `Markup`."""
    return _environment(_for_html).get_template(template).render(**values)


def fill_markdown(template: str, **values: object) -> str:
    """A page of Markdown, in which no value can start markup."""
    text = _environment(_for_markdown).get_template(template).render(**values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _environment(finalize: object) -> Environment:
    """Autoescape is on; whatever a template prints goes through `finalize` first."""
    environment = Environment(
        loader=PackageLoader("gistbench.report.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,  # type: ignore[arg-type]
    )
    environment.filters["code"] = _code_span
    return environment


def _for_html(value: object) -> object:
    return value if isinstance(value, Markup) else visible(str(value))


def _for_markdown(value: object) -> Markup:
    """Backslash-escape what Markdown or HTML would act on; one line stays one line."""
    if isinstance(value, Markup):
        return value
    return Markup(_MARKDOWN_SPECIAL.sub(r"\\\1", visible(str(value))))


def _code_span(value: object) -> Markup:
    """Text in a Markdown code fence that nothing in it can close."""
    text = visible(str(value))
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}sh\n{text}\n{fence}")
