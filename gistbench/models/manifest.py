"""The manifest of a checkpoint: what it belongs to, and what it is. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from gistbench.config import AnswerWith, GistView, Objective
from gistbench.errors import PrerequisiteError, UsageError, did_you_mean
from gistbench.models.catalog import file_sha256
from gistbench.records import CheckpointRecord, Record
from gistbench.resources import shipped
from gistbench.storage import read_json

DEFAULT_BASE = "smollm2-135m"
DEFAULT_CHECKPOINT = "smollm2-135m-gist-10"

MANIFEST_FILE = "gist.json"
ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG_FILE = "adapter_config.json"

CHECKPOINT_KINDS: dict[Objective, str] = {"gist": "gist", "full": "full-context"}
"""Objective -> what a checkpoint of it is called in a sentence."""


RANDOM_WEIGHTS = "random weights, seed "
"""What the fingerprint of weights begins with that were drawn and not trained."""


class BaseReference(Record):
    """The base model that a checkpoint belongs to."""

    name: str
    model_type: str
    architecture: dict[str, Any]
    fingerprint: str
    dtype: str
    quantization: Literal["none", "nf4"]
    num_rows: int


class Manifest(Record):
    """gist.json, beside the adapter.

    Attributes:
        objective: What the question saw in training. Checkpoints of before there was a choice do
            not say; theirs is "gist".
        num_gists: 0 by objective "full".
        gist_ids: Vocabulary rows of the gist tokens, added after the base model's rows; no text
            tokenises to them.
        prompt_template: How context, gists and question follow each other.
        trained_on: Task families in the training data.
        max_trained_context_tokens: The longest context seen in training.
    """

    schema_version: Literal[1] = 1
    name: str
    created: str
    base: BaseReference
    objective: Objective = "gist"
    num_gists: int
    gist_ids: tuple[int, ...]
    prompt_template: str = "{context}{gists}{question}"
    adapter_sha256: str
    adapter_config_sha256: str
    adapter_bytes: int
    trained_parameters: int
    trained_on: tuple[str, ...]
    max_trained_context_tokens: int
    training_summary: str
    parent_sha256: str | None = None
    training_config: dict[str, Any]
    versions: dict[str, str]

    @property
    def gist_view(self) -> GistView:
        """What each gist was trained to read; checkpoints of before there was a choice: all."""
        view: GistView = self.training_config.get("adapter", {}).get("gist_view", "context")
        return view

    @property
    def answer_with(self) -> AnswerWith:
        """The weights that questions are answered with; before there was a choice: the adapter."""
        weights: AnswerWith = self.training_config.get("adapter", {}).get("answer_with", "adapter")
        return weights


def shipped_checkpoints() -> dict[str, Path]:
    """Checkpoints that come with gistbench, by name."""
    root = Path(__file__).resolve().parent.parent / "checkpoints"
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{MANIFEST_FILE}"))}


def find_checkpoint(name: str, objective: Objective = "gist") -> Path:
    """Find a checkpoint by the name of a shipped one or by folder.

    Args:
        name: Shipped name or folder.
        objective: Of the checkpoint that is looked for; only the error's next step depends on it,
            `require_objective` holds the manifest against it.

    Raises:
        UsageError: There is none; the nearest shipped name is suggested.
    """
    known = shipped_checkpoints()
    if name in known:
        return known[name]
    path = Path(name).expanduser()
    if (path / MANIFEST_FILE).is_file():
        return path
    inside = sorted(path.glob(f"*/{MANIFEST_FILE}")) if path.is_dir() else []
    if inside:
        hint = f"it holds {', '.join(str(file.parent) for file in inside[-3:])}: name one of these"
    elif objective == "full":
        hint = "name a folder that `gistbench train --objective full` wrote"
    else:
        hint = did_you_mean(name, known)
    kind = CHECKPOINT_KINDS[objective]
    raise UsageError(f"no {kind} checkpoint at {name!r} (no {MANIFEST_FILE} there); {hint}")


def read_manifest(folder: Path) -> Manifest:
    """Read a checkpoint's manifest and hold its files against it.

    Raises:
        PrerequisiteError: A file is missing.
        UsageError: A file is not the one that was saved.
    """
    if not (folder / MANIFEST_FILE).is_file():
        raise UsageError(
            f"{folder} lacks {MANIFEST_FILE}, so it is no checkpoint; name a folder that "
            "`gistbench train` wrote"
        )
    manifest = read_json(folder / MANIFEST_FILE, Manifest)
    expected = {
        ADAPTER_FILE: manifest.adapter_sha256,
        ADAPTER_CONFIG_FILE: manifest.adapter_config_sha256,
    }
    for file, digest in expected.items():
        if not (folder / file).is_file():
            raise PrerequisiteError(
                f"checkpoint {manifest.name} lacks {file}; restore the whole folder {folder}"
            )
        found = file_sha256(folder / file)
        if found != digest:
            raise UsageError(
                f"checkpoint {manifest.name}: {file} has sha256 {found[:12]}…, its manifest says "
                f"{digest[:12]}…; the file was changed or damaged: restore it"
            )
    return manifest


def base_of(checkpoint: str | None, base: str | None, tuned_checkpoint: str | None = None) -> str:
    """The base model that checkpoints and a base, each perhaps not named, mean together."""
    if base is not None:
        return base
    if checkpoint is not None:
        return read_manifest(find_checkpoint(checkpoint)).base.name
    if tuned_checkpoint is not None:
        return read_manifest(find_checkpoint(tuned_checkpoint, "full")).base.name
    return DEFAULT_BASE


def require_objective(manifest: Manifest, objective: Objective, where: str) -> None:
    """Refuse a checkpoint that was trained for the other way to see a context.

    Args:
        manifest: Of the checkpoint.
        objective: What is needed.
        where: The flag or field that named it, as the error's first words.

    Raises:
        UsageError: Names both objectives.
    """
    if manifest.objective == objective:
        return
    saw = {"gist": f"{manifest.num_gists} gist tokens alone", "full": "the whole context"}
    raise UsageError(
        f"{where} {manifest.name} was trained with objective {manifest.objective} (its question "
        f"sees {saw[manifest.objective]}) and objective {objective} is needed here; name one that "
        f"`gistbench train --objective {objective}` wrote"
    )


def require_base(manifest: Manifest, base: BaseReference, *, allow_other_precision: bool) -> None:
    """Refuse a base model that the checkpoint was not trained on.

    Raises:
        UsageError: Another architecture, or other weights or quantisation without the flag.
    """
    trained = manifest.base
    if base.architecture != trained.architecture:
        differing = sorted(
            key
            for key in trained.architecture.keys() | base.architecture.keys()
            if trained.architecture.get(key) != base.architecture.get(key)
        )
        raise UsageError(
            f"checkpoint {manifest.name} was trained on {trained.name}, not on {base.name} "
            f"(they differ in {', '.join(differing[:3])}); pass --base {trained.name}"
        )
    drawn = any(item.fingerprint.startswith(RANDOM_WEIGHTS) for item in (trained, base))
    if drawn and base.fingerprint != trained.fingerprint:
        raise UsageError(
            f"checkpoint {manifest.name} was trained on {_weights(trained)}, {base.name} has "
            f"{_weights(base)}; what was learned on random weights is of no use on others: train "
            "a checkpoint without --weights random"
        )
    if allow_other_precision:
        return
    if base.fingerprint != trained.fingerprint:
        raise UsageError(
            f"checkpoint {manifest.name} was trained on weights {trained.fingerprint[:12]}… of "
            f"{trained.name}, {base.name} has {base.fingerprint[:12]}…; if this is the same model "
            "in another precision, pass --allow-other-precision"
        )
    if base.quantization != trained.quantization:
        raise UsageError(
            f"checkpoint {manifest.name} was trained with quantization {trained.quantization}, not "
            f"{base.quantization}; pass --quantization {trained.quantization} or "
            "--allow-other-precision"
        )


def _weights(base: BaseReference) -> str:
    drawn = base.fingerprint.startswith(RANDOM_WEIGHTS)
    return base.fingerprint if drawn else f"weights {base.fingerprint[:12]}…"


def checkpoint_record(manifest: Manifest) -> CheckpointRecord:
    """What a run's record says of the checkpoint."""
    return CheckpointRecord(
        name=manifest.name,
        sha256=manifest.adapter_sha256,
        num_gists=manifest.num_gists,
        trained_parameters=manifest.trained_parameters,
        size_bytes=manifest.adapter_bytes,
        training_summary=manifest.training_summary,
        trained_on=manifest.trained_on,
        max_trained_context_tokens=manifest.max_trained_context_tokens,
    )


def published_scorecard(checkpoint_name: str) -> Path | None:
    """The committed scorecard.json of a shipped checkpoint, if there is one."""
    path = shipped("results/published") / checkpoint_name / "scorecard.json"
    return path if path.is_file() else None
