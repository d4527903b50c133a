"""Objective "full": the joint pass with everything visible is the ordinary model, and its adapter
is an ordinary PEFT adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from gistbench.config import AdapterConfig, TrainConfig
from gistbench.errors import UsageError
from gistbench.models.adapter import add_adapter
from gistbench.models.checkpoint import load_checkpoint, save_checkpoint
from gistbench.models.manifest import (
    ADAPTER_FILE,
    MANIFEST_FILE,
    Manifest,
    find_checkpoint,
    read_manifest,
)
from gistbench.training.examples import IGNORED, Example, Turn, collate
from gistbench.training.objective import layout_of

FLOAT32 = 1e-4
"""Largest difference allowed; the tiny models' logits have a standard deviation of about 6."""

EXAMPLES = (
    Example([*range(3, 24)], (Turn([40, 41, 42, 43], [30, 31, 32]),)),
    Example([*range(5, 17)], (Turn([44, 45], [33, 34, 35, 36]),)),
    Example([7, 9, 11, 8], (Turn([46, 47, 48, 49, 50], [37]),)),
)
"""Contexts, questions and answers of different lengths, so that all parts are padded."""


def whole(item: Example) -> list[int]:
    """An example's tokens as an ordinary model reads them."""
    return item.context + item.turns[0].question + item.turns[0].answer


def joint_logits(model: Any, *, num_visible: int | None) -> torch.Tensor:
    """Logits of the training pass over `EXAMPLES`, ``(batch, P + S, vocabulary)``."""
    batch = collate(EXAMPLES, ())
    layout = layout_of(batch, num_visible)
    output = model(
        input_ids=torch.cat([batch["prefix_ids"], batch["suffix_ids"]], dim=1),
        position_ids=layout.joint_positions(batch["suffix_ids"].shape[1]),
        layout=layout,
        use_cache=False,
    )
    logits: torch.Tensor = output.logits
    return logits


def rows(logits: torch.Tensor) -> list[torch.Tensor]:
    """The logits of each example's own tokens, ``(tokens, vocabulary)``."""
    prefix = max(len(item.context) for item in EXAMPLES)
    return [
        torch.cat(
            [
                row[prefix - len(item.context) : prefix],
                row[-len(item.turns[0].question) - len(item.turns[0].answer) :],
            ]
        )
        for row, item in zip(logits, EXAMPLES, strict=True)
    ]


def difference(model: Any, plain: Any, *, num_visible: int | None) -> float:
    """Largest difference to the plain model, which reads each example's tokens alone in a row."""
    return max(
        float(
            (
                got
                - plain(
                    torch.tensor([item.context + item.turns[0].question + item.turns[0].answer])
                ).logits[0]
            )
            .abs()
            .max()
        )
        for got, item in zip(
            rows(joint_logits(model, num_visible=num_visible)), EXAMPLES, strict=True
        )
    )


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@torch.no_grad()
def test_the_joint_pass_with_everything_visible_is_plain_causal_attention(
    tiny: Any, passes: Any, implementation: str
) -> None:
    plain = passes.ordinary(tiny, implementation)
    assert difference(tiny, plain, num_visible=None) < FLOAT32
    # A context that is hidden is noticed, also where layers see a window of two tokens alone.
    assert difference(tiny, plain, num_visible=0) > 0.1


def test_its_loss_and_gradients_are_the_ordinary_models(make_tiny: Any, passes: Any) -> None:
    """Cross-entropy of the answer's tokens alone, as transformers computes it from labels."""
    model = make_tiny("llama")
    plain = passes.ordinary(model)
    labels = collate(EXAMPLES, ())["labels"]
    longest = labels.shape[1]
    logits = joint_logits(model, num_visible=None)[:, -(longest + 1) : -1]
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    expected = torch.zeros(())
    for item in EXAMPLES:
        ids = torch.tensor([item.context + item.turns[0].question + item.turns[0].answer])
        told = ids.clone()
        told[:, : -len(item.turns[0].answer)] = IGNORED
        expected = expected + plain(ids, labels=told).loss * len(item.turns[0].answer)
    expected = expected / sum(len(item.turns[0].answer) for item in EXAMPLES)
    assert abs((loss - expected).item()) < 1e-5
    loss.backward()
    expected.backward()
    for (name, mine), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4, msg=name)


# -------------------------------------------------------------------------------------- checkpoint


def save_full(base: Any, folder: Path) -> Manifest:
    """Save an adapter as different from zero as a trained one, without gists."""
    config = TrainConfig(
        name="whole", objective="full", adapter=AdapterConfig(lora_rank=4, lora_alpha=8)
    )
    model = add_adapter(base.model, config, ())
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return save_checkpoint(
        model.eval(),
        base,
        config,
        (),
        folder,
        training_summary="",
        max_trained_context_tokens=9,
        tasks=(),
    )


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral-window-7"])
@torch.no_grad()
def test_plain_peft_loads_it_on_a_base_that_nobody_resized(
    architecture: str, make_base_folder: Any, load_folder: Any, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = make_base_folder(architecture)
    save_full(load_folder(folder), tmp_path / "checkpoint")
    loaded = load_checkpoint(load_folder(folder), tmp_path / "checkpoint", objective="full")
    assert loaded.gist_ids == ()
    assert not loaded.model.training
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    untrained = difference(loaded.model, base, num_visible=None)
    assert untrained > 0.1, "the adapter does nothing"
    plain = PeftModel.from_pretrained(base, tmp_path / "checkpoint").eval()
    # Two kernels on weights drawn anew in each run; a wrong one shows at 0.1.
    assert difference(loaded.model, plain, num_visible=None) < 10 * FLOAT32


def test_it_holds_lora_alone_and_says_so(
    make_base_folder: Any, load_folder: Any, tmp_path: Path
) -> None:
    manifest = save_full(load_folder(make_base_folder()), tmp_path / "checkpoint")
    assert read_manifest(tmp_path / "checkpoint") == manifest
    assert (manifest.objective, manifest.num_gists, manifest.gist_ids) == ("full", 0, ())
    assert manifest.prompt_template == "{context}{question}"
    assert all("lora_" in name for name in load_file(tmp_path / "checkpoint" / ADAPTER_FILE))


def test_a_checkpoint_of_before_there_was_a_choice_is_a_gist_checkpoint() -> None:
    """The one that ships is such a one."""
    shipped = find_checkpoint("smollm2-135m-gist-10")
    text = (shipped / MANIFEST_FILE).read_text(encoding="utf-8")
    assert '"objective"' not in text
    assert read_manifest(shipped).objective == "gist"


def test_neither_objective_is_taken_for_the_other(
    make_base_folder: Any, load_folder: Any, make_adapted: Any, tmp_path: Path
) -> None:
    folder = make_base_folder()
    save_full(load_folder(folder), tmp_path / "whole")
    base = load_folder(folder)
    model, gist_ids, config = make_adapted(base.model)
    save_checkpoint(
        *(model, base, config, gist_ids, tmp_path / "gists"),
        training_summary="",
        max_trained_context_tokens=9,
        tasks=(),
    )
    said = {
        "gist": "objective full (its question sees the whole context) and objective gist is needed",
        "full": "objective gist (its question sees 3 gist tokens alone) and objective full is",
    }
    for needed, other in (("gist", "whole"), ("full", "gists")):
        with pytest.raises(UsageError) as caught:
            load_checkpoint(load_folder(folder), tmp_path / other, objective=needed)
        text = str(caught.value)
        assert said[needed] in text
        assert f"`gistbench train --objective {needed}`" in text
        assert "\n" not in text


def test_looking_for_one_that_is_not_there_says_how_to_get_one() -> None:
    with pytest.raises(UsageError, match="no full-context checkpoint at 'nowhere'") as caught:
        find_checkpoint("nowhere", "full")
    assert "gistbench train --objective full" in str(caught.value)
