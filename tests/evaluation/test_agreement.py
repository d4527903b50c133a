"""Claims about the `full` arm: it is plain lm-eval, sample by sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gistbench import generators
from gistbench.evaluation.lm import ArmLM
from gistbench.models.catalog import find_model
from gistbench.models.loading import local_folder
from tests.fixtures.engines import make_engine


def evaluate(model: Any, folder: Path, *, context_tokens: int, samples: int, **options: Any) -> Any:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(
        include_path=str(generators.tasks_folder()),
        include_defaults=False,
        metadata={
            "context_tokens": context_tokens,
            "num_samples": samples,
            "seed": 0,
            "tokenizer": str(folder),
        },
    )
    results = simple_evaluate(
        model=model,
        tasks=["niah_passkey"],
        task_manager=manager,
        bootstrap_iters=0,
        log_samples=True,
        **options,
    )
    return results["samples"]["niah_passkey"]


def assert_agreement(folder: Path, *, context_tokens: int, samples: int) -> list[Any]:
    sizes = {"context_tokens": context_tokens, "samples": samples}
    arm = ArmLM(make_engine("full", folder), batch_size=1, identity={})
    ours = evaluate(arm, folder, **sizes)
    theirs = evaluate(
        "hf",
        folder,
        **sizes,
        model_args={"pretrained": str(folder), "dtype": "float32"},
        batch_size=1,
        device="cpu",
    )
    assert len(ours) == len(theirs) == samples
    for mine, other in zip(ours, theirs, strict=True):
        for field in ("doc_hash", "prompt_hash", "target_hash"):
            assert mine[field] == other[field]
        assert mine["doc"]["prompt_sha256"] == other["doc"]["prompt_sha256"]
        assert mine["doc"]["prompt_sha256"] in arm.responses
        assert mine["filtered_resps"] == other["filtered_resps"]
        for metric in ("exact_match", "contains", "digit_accuracy"):
            assert mine[metric] == other[metric]
    return list(ours)


@pytest.mark.parametrize("context_tokens", [160, 256])
def test_full_context_agrees_with_plain_lm_eval(tiny_base: Path, context_tokens: int) -> None:
    ours = assert_agreement(tiny_base, context_tokens=context_tokens, samples=6)
    assert len({entry["filtered_resps"][0] for entry in ours}) > 1, "answers that cannot differ"


@pytest.mark.slow
def test_full_context_agrees_with_plain_lm_eval_on_the_real_model() -> None:
    folder = local_folder(find_model("smollm2-135m"))
    ours = assert_agreement(folder, context_tokens=512, samples=3)
    assert sum(entry["exact_match"] for entry in ours) >= 1
