"""The page of the statistics that scorecards and gates are made of."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

from docs.tools.docstrings import function, parsed, prose
from docs.tools.markdown import page
from gistbench.report import paired, power, ranks, rates, ratios, statistics

MODULES: tuple[ModuleType, ...] = (statistics, paired, rates, ratios, ranks, power)

_EXAMPLE = statistics.wilson(997, 1000)

_ABOUT = f"""\
All of it imports without torch and without a model, and may be used by itself:

```python
from gistbench.report.statistics import wilson

found = wilson(997, 1000)
print(f"{{found.low:.1%}} to {{found.high:.1%}}, n = {{found.n:,}}")
# {_EXAMPLE.low:.1%} to {_EXAMPLE.high:.1%}, n = {_EXAMPLE.n:,}
```"""


def statistics_page() -> str:
    """The page's text."""
    parts = []
    for module in MODULES:
        about = [prose(parsed(module).short_description), prose(parsed(module).long_description)]
        parts += [f"## {module.__name__}", *(text for text in about if text)]
        for thing in _public(module):
            parts += [f"### {thing.__name__}", function(thing)]
    return page("Statistics", _ABOUT, *parts)


def _public(module: ModuleType) -> list[Any]:
    """What a module defines itself, without what it keeps to itself, in its order."""
    own = [
        thing
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(thing) or inspect.isclass(thing))
        and thing.__module__ == module.__name__
    ]
    return sorted(own, key=lambda thing: inspect.getsourcelines(thing)[1])
