"""The entry point: what a user can mend becomes one line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from cyclopts import CycloptsError
from pydantic import ValidationError
from rich.console import Console

from gistbench.cli.app import app
from gistbench.config_files import first_problem
from gistbench.errors import GistbenchError

EXIT_USAGE = 2
EXIT_PIPE = 141
"""As a shell says of a program that its reader left."""

SECONDS_FOR_THE_FIRST = 5.0


def _refuse(message: str) -> None:
    rank = os.environ.get("RANK", "0")
    if rank != "0":
        # What every process refuses, the first one says, and its launcher ends the others. What
        # this one alone refuses, it says itself.
        time.sleep(SECONDS_FOR_THE_FIRST)
        message = f"process {rank}: {message}"
    line = f"gistbench: {' '.join(message.split())}"
    Console(stderr=True).print(line, highlight=False, markup=False, soft_wrap=True)
    sys.exit(EXIT_USAGE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; turn what the user can mend into one line and exit code 2."""
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except GistbenchError as error:
        _refuse(str(error))
    except CycloptsError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ValidationError):
            cause = cause.__cause__
        if isinstance(cause, ValidationError):
            _refuse(f"command line: {first_problem(cause)}; see `gistbench COMMAND --help`")
        said = str(error).strip()
        said = said if said.endswith("...") else said.rstrip(".")
        _refuse(f"{said}; see `gistbench COMMAND --help`")
    except BrokenPipeError:
        # Whoever read what was printed has had enough, as `head` does. Nor may the interpreter
        # complain when it flushes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_PIPE)
    except KeyboardInterrupt:
        Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0").print(
            "\ngistbench: stopped; given again, `run`, `train`, `judge` and `speed savings` go on "
            "from here, other commands begin anew",
            highlight=False,
            soft_wrap=True,
        )
        sys.exit(130)
