"""The Python of their own that some arms run in.

kvpress and gistbench need different versions of transformers. Arms of kvpress are answered by a
worker under another interpreter: that of ``.kvpress`` in a checkout, which `make kvpress` builds,
or the one that ``GISTBENCH_KVPRESS_PYTHON`` names.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from gistbench.errors import PrerequisiteError
from gistbench.resources import checkout

KVPRESS_PYTHON = "GISTBENCH_KVPRESS_PYTHON"

_LOOK = "from importlib import metadata; metadata.version('kvpress')"


def kvpress_python() -> str:
    """The interpreter of the environment that holds kvpress.

    Raises:
        PrerequisiteError: There is none, or it does not hold kvpress.
    """
    chosen, root = os.environ.get(KVPRESS_PYTHON), checkout()
    if chosen is None and root is None:
        raise PrerequisiteError(
            "kvpress needs a Python of its own, with a transformers below 5.3; set "
            f"{KVPRESS_PYTHON} to one that has kvpress and lm-eval, or run `make kvpress` in a "
            "checkout of gistbench"
        )
    built = str(root / ".kvpress" / "bin" / "python") if root is not None else ""
    python = chosen or built
    try:
        # Looked up, not imported: what it imports takes seconds.
        found = subprocess.run(
            [python, "-c", _LOOK], env=without_packages(), capture_output=True, check=False
        )
    except OSError:
        found = None
    if found is None or found.returncode != 0:
        problem = f"{KVPRESS_PYTHON}={chosen} is none" if chosen else "it is not here"
        remedy = "set it to one that has kvpress, or unset it and " if chosen else ""
        raise PrerequisiteError(
            f"kvpress needs a Python of its own, and {problem}; {remedy}run `make kvpress`"
        )
    return python


def without_packages() -> dict[str, str]:
    """This process's variables without the packages that they would lend to another Python."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def lend_gistbench(folder: Path) -> str:
    """A folder that holds gistbench and nothing else, for another Python's import path.

    The folder that gistbench was installed into holds the transformers of this environment too.

    Args:
        folder: Where it may be made.
    """
    package = Path(__file__).resolve().parent
    lent = folder.resolve() / "lent"
    lent.mkdir(parents=True, exist_ok=True)
    link = lent / package.name
    if not link.exists():
        # Several workers may start at once: made beside it, then renamed over what is there.
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / package.name
            made.symlink_to(package)
            os.replace(made, link)
    return str(lent)
