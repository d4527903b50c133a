"""Files that ship with gistbench, in a checkout and in an installed wheel alike."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """Path of a shipped file or folder, for instance ``tasks`` or ``results/published``.

    A checkout keeps these beside the package; the wheel carries them inside it.
    """
    beside = _PACKAGE.parent / name
    in_checkout = (_PACKAGE.parent / "pyproject.toml").is_file() and beside.exists()
    return beside if in_checkout else _PACKAGE / name


def checkout() -> Path | None:
    """The root of the source checkout that holds this package, if it is one."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() else None


def cache_folder() -> Path:
    """Where converted weights are kept between runs (``GISTBENCH_CACHE`` overrides)."""
    if chosen := os.environ.get("GISTBENCH_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gistbench"
