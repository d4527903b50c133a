"""The checkpoints that a run's arms need, held against the arms and each other before any work."""

from __future__ import annotations

from dataclasses import dataclass

from gistbench.arms.names import find_arm_name
from gistbench.config import Objective, RunConfig
from gistbench.errors import UsageError
from gistbench.models.manifest import (
    CHECKPOINT_KINDS,
    Manifest,
    find_checkpoint,
    read_manifest,
    require_objective,
)

FLAGS: dict[Objective, str] = {"gist": "--checkpoint", "full": "--tuned-checkpoint"}
TUNED_ARM = "full-tuned"

_SOURCES: dict[Objective, str] = {
    "gist": "`gistbench train` wrote (`gistbench models` lists those that ship)",
    "full": "`gistbench train --objective full` wrote",
}


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Manifests of a run's checkpoints.

    Attributes:
        gist: Of the gist arm and its controls.
        tuned: Of the arm full-tuned.
    """

    gist: Manifest | None
    tuned: Manifest | None

    @property
    def gist_sha256(self) -> str | None:
        """Hash of the gist adapter."""
        return self.gist.adapter_sha256 if self.gist else None

    @property
    def tuned_sha256(self) -> str | None:
        """Hash of the adapter of the arm full-tuned."""
        return self.tuned.adapter_sha256 if self.tuned else None


def find_checkpoints(config: RunConfig, arms: tuple[str, ...]) -> Checkpoints:
    """Read the manifests of the checkpoints that a run names.

    Raises:
        UsageError: An arm has no checkpoint, a checkpoint no arm; one was trained with the other
            objective, or the two on different base models.
        PrerequisiteError: A file of a checkpoint is missing.
    """
    if config.tuned_checkpoint is not None and TUNED_ARM not in arms:
        # A record that names it, though no answer came from it, would mislead.
        raise UsageError(
            f"{FLAGS['full']} is for the arm {TUNED_ARM} alone, which this run does not have; pass "
            f"--models {','.join((*config.models, TUNED_ARM))} or leave it out"
        )
    found = Checkpoints(
        gist=_manifest("gist", config.checkpoint, arms),
        tuned=_manifest("full", config.tuned_checkpoint, arms),
    )
    if found.gist is not None and found.tuned is not None:
        _require_one_base(found.gist, found.tuned, config.allow_other_precision)
    return found


def _manifest(objective: Objective, name: str | None, arms: tuple[str, ...]) -> Manifest | None:
    if name is not None:
        manifest = read_manifest(find_checkpoint(name, objective))
        require_objective(manifest, objective, FLAGS[objective])
        return manifest
    for arm in arms:
        if find_arm_name(arm).needs_checkpoint == objective:
            raise UsageError(
                f"arm {arm} needs a {CHECKPOINT_KINDS[objective]} checkpoint; pass "
                f"{FLAGS[objective]} NAME_OR_FOLDER, for instance one that {_SOURCES[objective]}"
            )
    return None


def _require_one_base(gist: Manifest, tuned: Manifest, allow_other_precision: bool) -> None:
    """Refuse checkpoints that no one base model fits: a worker would notice hours later."""
    one, other = gist.base, tuned.base
    same_weights = (one.fingerprint, one.quantization) == (other.fingerprint, other.quantization)
    if one.architecture == other.architecture and (same_weights or allow_other_precision):
        return
    raise UsageError(
        f"{FLAGS['gist']} {gist.name} was trained on {one.name} (weights {one.fingerprint[:12]}, "
        f"quantization {one.quantization}), {FLAGS['full']} {tuned.name} on {other.name} (weights "
        f"{other.fingerprint[:12]}, quantization {other.quantization}); name two that were trained "
        "on the same base model"
    )
