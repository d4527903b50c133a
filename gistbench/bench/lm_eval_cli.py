"""lm-eval's own command line with gistbench's model and tasks.

lm-eval finds models only if their class was registered in its process, and gives a task's generator
the model arguments; both are arranged here, everything else is lm-eval's.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

# lm-eval registers its own models only while its registry is empty: they come first.
import lm_eval.models  # noqa: F401
from lm_eval._cli.utils import MergeDictAction
from lm_eval.api.registry import register_model

from gistbench import generators
from gistbench.arms.names import find_arm_name, require_packages
from gistbench.bench.job import Job
from gistbench.bench.loaded import load, resolve_device
from gistbench.config import RunConfig
from gistbench.config_files import validate
from gistbench.errors import UsageError
from gistbench.evaluation.engine import no_marker
from gistbench.evaluation.lm import ArmLM
from gistbench.models.catalog import find_model
from gistbench.models.loading import local_folder
from gistbench.models.manifest import CHECKPOINT_KINDS, base_of


@register_model("gistbench")
class GistbenchLM(ArmLM):
    """One arm as ``--model gistbench``.

    Model arguments: ``arm`` (as in ``gistbench models``), ``checkpoint``, ``tuned_checkpoint``,
    ``base``, ``dtype``, ``quantization``, ``decoding``, ``allow_other_precision``.
    """

    def __init__(
        self,
        arm: str = "gist",
        checkpoint: str | None = None,
        tuned_checkpoint: str | None = None,
        base: str | None = None,
        batch_size: int | str = 1,
        device: str | None = None,
        max_batch_size: int | None = None,
        **fields: Any,
    ) -> None:
        known = find_arm_name(arm, "--model_args")
        require_packages(known)
        if known.environment is not None:
            raise UsageError(
                f"arm {arm} runs in an environment of its own, which lm-eval's command line does "
                f"not start; use `gistbench run --models {arm}`"
            )
        needed = known.needs_checkpoint
        argument = "tuned_checkpoint" if needed == "full" else "checkpoint"
        if needed and {"gist": checkpoint, "full": tuned_checkpoint}[needed] is None:
            raise UsageError(
                f"arm {arm} needs a {CHECKPOINT_KINDS[needed]} checkpoint; add "
                f"{argument}=NAME_OR_FOLDER to --model_args"
            )
        if not str(batch_size).isdigit():
            raise UsageError(
                f"--batch_size {batch_size} probes memory at full length, which is wrong for a "
                "compressed context; give a number"
            )
        kind = "auto" if device is None else device.partition(":")[0]
        settings = validate(
            RunConfig,
            {
                **fields,
                "models": (arm,),
                "checkpoint": checkpoint,
                "tuned_checkpoint": tuned_checkpoint,
                "base": base,
                "device": kind,
            },
            "--model_args",
        )
        job = Job(
            mode="evaluate",
            arm=arm,
            folder=".",
            base=base_of(checkpoint, base, tuned_checkpoint),
            revision=settings.revision,
            checkpoint=checkpoint,
            tuned_checkpoint=tuned_checkpoint,
            tasks=(),
            context_tokens=settings.context_tokens,
            samples=1,
            seed=settings.seed,
            device=settings.device,
            dtype=settings.dtype,
            quantization=settings.quantization,
            batch_size=int(batch_size),
            chunk_tokens=settings.chunk_tokens,
            decoding=settings.decoding,
            contexts_held=settings.contexts_held,
            allow_other_precision=settings.allow_other_precision,
            trust_remote_code=settings.trust_remote_code,
        )
        loaded = load(job, resolve_device(settings.device), no_marker)
        super().__init__(loaded.engine, batch_size=int(batch_size), identity={})


def run_lm_eval(arguments: list[str]) -> int:
    """Hand a command line to lm-eval.

    Returns:
        Its exit code.
    """
    from lm_eval.__main__ import cli_evaluate

    sys.argv = ["lm-eval", *with_tasks(arguments)]
    try:
        cli_evaluate()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def with_tasks(arguments: list[str]) -> list[str]:
    """Add gistbench's tasks, and the tokenizer that their generators need, to a command line."""
    helping = not arguments or arguments[0] in ("-h", "--help") or "--help" in arguments
    if helping:
        return arguments
    given = _given(arguments)
    found = list(arguments)
    if given.include_path is None:
        found += ["--include_path", str(generators.tasks_folder())]
    if given.model == "gistbench" and "tokenizer" not in given.metadata:
        names = (given.model_args.get(n) for n in ("checkpoint", "base", "tuned_checkpoint"))
        tokenizer = str(local_folder(find_model(base_of(*names))))
        found += ["--metadata", json.dumps({"tokenizer": tokenizer})]  # joins what is there
    return found


def _given(arguments: list[str]) -> argparse.Namespace:
    """Of lm-eval's arguments those that matter here, by its names, its letters and its reading."""
    parser = argparse.ArgumentParser("gistbench lm-eval", add_help=False, allow_abbrev=False)
    parser.add_argument("--model", "-M")
    parser.add_argument("--model_args", "-a", nargs="+", action=MergeDictAction, default={})
    parser.add_argument("--metadata", nargs="+", action=MergeDictAction, default={})
    parser.add_argument("--include_path")
    return parser.parse_known_args(arguments)[0]
