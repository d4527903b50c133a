import json
from pathlib import Path

import pytest

from gistbench import generators
from gistbench.errors import UsageError


def test_lm_evals_own_models_stay_beside_ours() -> None:
    from lm_eval.api.registry import get_model

    from gistbench.bench.lm_eval_cli import GistbenchLM

    assert get_model("gistbench") is GistbenchLM
    assert get_model("hf").__name__ == "HFLM"


def test_an_arm_of_another_environment_is_told_where_it_runs() -> None:
    from gistbench.bench.lm_eval_cli import GistbenchLM

    with pytest.raises(UsageError, match="use `gistbench run --models kv-knorm-64`"):
        GistbenchLM(arm="kv-knorm-64")


@pytest.mark.parametrize(
    "model",
    [
        ["--model", "gistbench", "--model_args", "arm=full,base={base}"],
        ["--model=gistbench", "--model_args=arm=full,base={base}"],
        ["-M", "gistbench", "-a", "arm=full", "base={base}"],
        ["-M", "gistbench", "-a", "base={base}", "--model_args", "arm=full"],
        ["-M", "gistbench", "-a", '{"arm": "full", "base": "{base}"}'],
        ["-M", "gistbench", "-a", "base={base}", "--metadata", "max_seq_lengths=[4096]"],
    ],
)
def test_generators_get_the_tokenizer_of_the_base_however_it_is_named(
    model: list[str], tiny_base: Path
) -> None:
    from gistbench.bench.lm_eval_cli import with_tasks

    arguments = ["run", *(item.replace("{base}", str(tiny_base)) for item in model)]
    arguments += ["--tasks", "niah_passkey"]
    added = [
        "--include_path",
        str(generators.tasks_folder()),
        "--metadata",
        json.dumps({"tokenizer": str(tiny_base)}),
    ]
    assert with_tasks(arguments) == [*arguments, *added]


def test_a_tokenizer_that_the_user_names_stays() -> None:
    from gistbench.bench.lm_eval_cli import with_tasks

    arguments = ["run", "-M", "gistbench", "--metadata", "tokenizer=mine", "--include_path", "x"]
    assert with_tasks(arguments) == arguments


def test_other_models_and_a_users_own_tasks_are_left_alone() -> None:
    from gistbench.bench.lm_eval_cli import with_tasks

    arguments = ["run", "--model", "hf", "--include_path", "mine", "--tasks", "x"]
    assert with_tasks(arguments) == arguments
    assert with_tasks(["run", "--help"]) == ["run", "--help"]
