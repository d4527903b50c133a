"""lm-eval's own command line inside gistbench's."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from gistbench.cli.app import app, quiet


@app.command(name="lm-eval", help_flags=[], version_flags=[])
def lm_eval(
    *arguments: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
) -> None:
    """lm-eval's own command line, with gistbench's model and tasks registered.

    For instance: gistbench lm-eval run --model gistbench --model_args
    arm=gist,checkpoint=smollm2-135m-gist-10 --tasks niah_passkey --limit 2
    """
    quiet()
    from gistbench.bench.lm_eval_cli import run_lm_eval

    sys.exit(run_lm_eval(list(arguments)))
