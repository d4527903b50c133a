"""Claims about the arm full-tuned: plain PEFT on plain transformers, and nothing of the gists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gistbench.arms.base import Prompt
from gistbench.arms.names import with_controls
from gistbench.errors import UsageError
from gistbench.evaluation.engine import Engine
from tests.fixtures.engines import make_engine, make_prompt

NUM_TOKENS = 8


@pytest.fixture(scope="module")
def engine(tiny_base: Path, tiny_tuned_checkpoint: Path) -> Engine:
    return make_engine("full-tuned", tiny_base, tiny_tuned_checkpoint)


@pytest.fixture(scope="module")
def prompts(engine: Engine) -> list[Prompt]:
    return [make_prompt(engine.base.tokenizer, index) for index in range(6)]


def answers(engine: Engine, prompts: list[Prompt]) -> list[tuple[str, int]]:
    responses = engine.respond(prompts, until=(), max_new_tokens=NUM_TOKENS)
    return [(response.output, response.output_tokens) for response in responses]


@torch.no_grad()
def generated(model: Any, tokenizer: Any, prompts: list[Prompt]) -> list[tuple[str, int]]:
    """The same by transformers' own generation, without anything of gistbench."""
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt.tokens.context + prompt.tokens.question])
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=NUM_TOKENS,
        )[0, ids.shape[1] :]
        found.append((tokenizer.decode(output, skip_special_tokens=True), len(output)))
    return found


def test_it_answers_as_plain_peft_with_transformers_generation(
    engine: Engine, prompts: list[Prompt], tiny_base: Path, tiny_tuned_checkpoint: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()
    tokenizer = engine.base.tokenizer
    untrained = generated(base, tokenizer, prompts)
    plain = PeftModel.from_pretrained(base, tiny_tuned_checkpoint).eval()
    expected = generated(plain, tokenizer, prompts)
    assert expected != untrained, "the adapter does nothing"
    assert len(set(expected)) > 1, "the context does nothing"
    assert answers(engine, prompts) == expected
    assert [answers(engine, [prompt])[0] for prompt in prompts] == expected
    assert answers(make_engine("full", tiny_base), prompts) == untrained


def test_its_cache_holds_every_slot_of_the_context(engine: Engine, prompts: list[Prompt]) -> None:
    cache = engine.hold(prompts[0])
    assert cache.num_slots == len(prompts[0].tokens.context)
    assert engine.reader.gist_ids == ()


def test_a_gist_checkpoint_is_refused(tiny_base: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="objective full is needed"):
        make_engine("full-tuned", tiny_base, tiny_checkpoint)


def test_it_brings_no_control_of_gists() -> None:
    assert with_controls(("full", "full-tuned")) == ("full", "full-tuned", "none")
