def test_lm_evals_own_models_stay_beside_ours() -> None:
    from lm_eval.api.registry import get_model

    from gistbench.bench.lm_eval_cli import GistbenchLM

    assert get_model("gistbench") is GistbenchLM
    assert get_model("hf").__name__ == "HFLM"
