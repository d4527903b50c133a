"""`gistbench baseline accept`: the only thing that writes a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gistbench.errors import UsageError
from gistbench.gate.baseline import FOLDER, path_of, write_baseline
from gistbench.gate.taking import require_clean, take


def accept(
    run_dir: Path,
    *,
    name: str,
    reason: str,
    repeats: Sequence[Path] = (),
    folder: Path | None = None,
) -> Path:
    """Write a run down as the baseline of a name, in place of an earlier one.

    Version control keeps the earlier one, and shows what changed.

    Returns:
        The file.

    Raises:
        UsageError: No reason is given, the name is none, the run is unfinished or its controls are
            not clean, or the file cannot be written.
    """
    if not reason.strip():
        raise UsageError(
            'a baseline is accepted for a reason that later readers need; pass --reason "..."'
        )
    path = path_of(name, folder or FOLDER)
    baseline, evidence = take(run_dir, name=name, reason=reason.strip(), repeats=repeats)
    require_clean(evidence, run_dir)
    write_baseline(baseline, path)
    return path
