import pytest

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
