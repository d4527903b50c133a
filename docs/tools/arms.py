"""The page of arms, base models, architectures and shipped checkpoints."""

from __future__ import annotations

from docs.tools.markdown import code, page, table
from gistbench.arms.names import ARM_NAMES, ArmName
from gistbench.models.architectures import LENGTH_DEPENDENT_ROPE_TYPES, SUPPORTED_ARCHITECTURES
from gistbench.models.catalog import CATALOG
from gistbench.models.manifest import read_manifest, shipped_checkpoints

_ABOUT = """\
An arm is one way to answer a question about a context: it turns the context into a key/value cache
and nothing else. Prompts, precision, quantisation and the decoding loop are the same for all arms
of a run. `--models` names them, separated by commas; N is a budget in tokens, any positive number.
The control `none` joins every run, and `swapped` every run with the arm `gist`."""

_BASES = """\
`--base` (or `--base.name` in training) takes one of these names, a hub name (`owner/model`), a
local folder in the hub's layout, or a GGUF file."""

_ARCHITECTURES = """\
Others are refused by name. So are, in any of them, rotary embeddings of the types {ropes}, whose
phases depend on the length of a pass."""


def arms_page() -> str:
    """The page's text."""
    arms = [
        (code(arm.shown), arm.description, _needs(arm), "yes" if arm.reads_whole_context else "")
        for arm in ARM_NAMES.values()
    ]
    bases = [(code(entry.name), entry.description, entry.licence) for entry in CATALOG.values()]
    kinds = [
        (code(name), ", ".join(map(code, known.attention_projections)), _refused(known.refused))
        for name, known in SUPPORTED_ARCHITECTURES.items()
    ]
    shipped = []
    for name, folder in shipped_checkpoints().items():
        made = read_manifest(folder)
        shipped.append(
            (code(name), code(made.base.name), str(made.num_gists), made.training_summary)
        )
    ropes = " and ".join(map(code, LENGTH_DEPENDENT_ROPE_TYPES))
    return page(
        "Arms, models and checkpoints",
        _ABOUT,
        table(("arm", "what it is", "needs", "reads every token"), arms),
        "## Base models",
        _BASES,
        table(("name", "what it is", "licence"), bases),
        "## Architectures",
        _ARCHITECTURES.format(ropes=ropes),
        table(("model type", "layers that get LoRA by default", "refused settings"), kinds),
        "## Shipped checkpoints",
        table(("name", "base", "gists", "training"), shipped),
    )


def _needs(arm: ArmName) -> str:
    needs = []
    if arm.needs_checkpoint == "gist":
        needs.append("`--checkpoint`")
    if arm.needs_checkpoint == "full":
        needs.append("`--tuned-checkpoint`")
    if arm.packages:
        needs.append(", ".join(code(package) for _, package in arm.packages))
    if arm.environment:
        needs.append(f"the environment of `make {arm.environment}`")
    if arm.least_budget_tokens > 1:
        needs.append(f"N of {arm.least_budget_tokens} or more")
    if arm.model_types:
        needs.append(f"a {', '.join(arm.model_types)} model")
    return "; ".join(needs)


def _refused(refused: object) -> str:
    return ", ".join(map(code, refused)) if isinstance(refused, dict) else ""
