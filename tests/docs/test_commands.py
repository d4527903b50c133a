"""Every command of the documentation is one that the program understands."""

from __future__ import annotations

import argparse
import re
import tomllib
from importlib.util import find_spec

import pytest

from gistbench import generators
from gistbench.arms.names import with_controls
from gistbench.cli.app import app
from gistbench.config_files import load_preset
from gistbench.models.catalog import CATALOG
from gistbench.models.manifest import shipped_checkpoints
from tests.docs.documented import NEEDS_GPU, ROOT, SHELL, blocks, pages, simple_commands

TRUSTED = ("source", "git", "sed", "cd")
"""Programs of the shell, which no change to this project can break."""

EXAMPLES = ("door_colour",)
"""Tasks that a page has the reader write."""

SHOWN = [
    pytest.param(block.page, line, id=f"{block.page}: {line}")
    for page in pages()
    for block in blocks(page)
    if block.language in SHELL
    for line in block.command_lines
]


@pytest.mark.parametrize(("page", "line"), SHOWN)
def test_every_command_is_one_that_the_program_takes(page: str, line: str) -> None:
    for words in simple_commands(line):
        program, *arguments = words
        if program in TRUSTED:
            continue
        assert program in CHECKS, f"{page} shows {program}, which nothing here can check"
        CHECKS[program](arguments)


def test_commands_stand_in_blocks_that_are_looked_at() -> None:
    for page in pages():
        for block in blocks(page):
            begins = re.search(r"(?m)^(\$ )?(gistbench|make|pip|lm_eval) ", block.text)
            allowed = (*SHELL, "text", "python", "yaml", "yaml criteria", "json")
            assert block.language in allowed or not begins, f"{page}: {block.text}"


def test_the_mark_for_a_gpu_stands_where_it_is_read() -> None:
    marked = [block for page in pages() for block in blocks(page) if NEEDS_GPU in block.text]
    assert marked and all(block.needs_gpu and block.language in SHELL for block in marked)


def check_gistbench(arguments: list[str]) -> None:
    """The command line binds them, and what they name is there."""
    command, bound, *_ = app.parse_args(arguments, exit_on_error=False, print_error=False)
    assert callable(command)
    assert bound.args or bound.kwargs or arguments in (["models"], ["tasks"])
    for flag, check in NAMED.items():
        for value in values_of(arguments, flag):
            check(value)
    for word in arguments:
        if word.startswith(("results/published", "baselines/seed", "baselines/self", "tests/")):
            assert (ROOT / word).exists(), word


def values_of(arguments: list[str], flag: str) -> list[str]:
    """What stands behind a flag, up to the next one."""
    found: list[str] = []
    for place, word in enumerate(arguments):
        if word == flag:
            rest = arguments[place + 1 :]
            end = next((at for at, other in enumerate(rest) if other.startswith("-")), len(rest))
            found += [part for value in rest[:end] for part in value.split(",")]
    return found


def check_task(name: str) -> None:
    assert name in EXAMPLES or generators.expand((name,))


def check_checkpoint(name: str) -> None:
    made_by_a_command = name.startswith("checkpoints/")
    assert made_by_a_command or name in shipped_checkpoints() or (ROOT / name).is_dir(), name


def check_base(name: str) -> None:
    assert name in CATALOG or name == "owner/model" or (ROOT / name).is_dir(), name


NAMED = {
    "--models": lambda name: with_controls((name,)),
    "--preset": load_preset,
    "--tasks": check_task,
    "--task": check_task,
    "--data.tasks": check_task,
    "--checkpoint": check_checkpoint,
    "--tuned-checkpoint": check_checkpoint,
    "--base": check_base,
    "--base.name": check_base,
}


def check_make(arguments: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in (word for word in arguments if "=" not in word):
        assert re.search(rf"(?m)^{re.escape(target)}:", makefile), target


def check_pip(arguments: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert arguments[0] == "install"
    for extra in re.findall(r"\.\[(\w+)\]", " ".join(arguments)):
        assert extra in project["optional-dependencies"]


def check_python(arguments: list[str]) -> None:
    assert arguments[0] == "-m"
    assert find_spec(arguments[1]) is not None


def check_lm_eval(arguments: list[str]) -> None:
    """lm-eval's own parser takes the flags; an older form without `run` is one that it turns."""
    from lm_eval._cli.run import Run

    parser = argparse.ArgumentParser()
    Run.create(parser.add_subparsers())
    words = arguments if arguments[0] == "run" else ["run", *arguments]
    parsed = parser.parse_args(words)
    for name in parsed.tasks:
        check_task(name)


def check_torchrun(arguments: list[str]) -> None:
    """PyTorch's own parser takes the flags; what it starts is ours."""
    from torch.distributed.run import get_args_parser

    check_started(get_args_parser().parse_args(arguments))


def check_accelerate(arguments: list[str]) -> None:
    """accelerate's own parser, likewise."""
    from accelerate.commands.launch import launch_command_parser

    assert arguments[0] == "launch"
    check_started(launch_command_parser().parse_args(arguments[1:]))


def check_started(launcher: argparse.Namespace) -> None:
    assert launcher.module and launcher.training_script == "gistbench"
    check_gistbench(launcher.training_script_args)


CHECKS = {
    "gistbench": check_gistbench,
    "torchrun": check_torchrun,
    "accelerate": check_accelerate,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
    "lm_eval": check_lm_eval,
}
