"""Claims about arms: they differ in the cache that they leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gistbench.arms.base import Prompt, Reader
from gistbench.arms.catalog import ARMS, BUDGET_ARMS, find_arm
from gistbench.arms.names import ARM_NAMES, with_controls
from gistbench.core.cache import ContextCache
from gistbench.errors import UsageError
from gistbench.evaluation.engine import Engine
from gistbench.models.decode import read_contexts
from gistbench.models.gist_file import GistStore
from gistbench.models.prompts import PromptTokens
from tests.fixtures.engines import make_engine, make_prompt
from tests.fixtures.tiny_base import NUM_GISTS


@pytest.fixture(scope="module")
def engine(tiny_base: Path, tiny_checkpoint: Path) -> Engine:
    return make_engine("gist", tiny_base, tiny_checkpoint)


@pytest.fixture(scope="module")
def prompts(engine: Engine) -> list[Prompt]:
    return [make_prompt(engine.base.tokenizer, index) for index in range(3)]


def assert_same_cache(one: ContextCache, other: ContextCache) -> None:
    pairs = zip((*one.keys, *one.values), (*other.keys, *other.values), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


def compress(engine: Engine, prompt: Prompt) -> ContextCache:
    return read_contexts(
        engine.reader.model, [prompt.tokens.context], gist_ids=engine.reader.gist_ids
    )


def compress_and_share(reader: Reader, prompts: list[Prompt]) -> None:
    ARMS["gist"].share(reader, prompts, ARMS["gist"].read(reader, prompts))


def test_the_list_of_names_is_the_list_of_arms() -> None:
    assert set(ARM_NAMES) == {*ARMS, *BUDGET_ARMS}
    assert {name for name, arm in ARM_NAMES.items() if arm.takes_budget} == set(BUDGET_ARMS)
    for name, arm in ARMS.items():
        assert arm.name == name == arm.about.name
        assert not arm.about.needs_checkpoint or arm.uses_checkpoint


def test_a_gist_arm_leaves_the_gists_and_nothing_else(
    engine: Engine, prompts: list[Prompt]
) -> None:
    cache = ARMS["gist"].read(engine.reader, prompts[:2])
    assert cache.num_slots == NUM_GISTS
    assert {tuple(key.shape) for key in cache.keys} == {(2, 2, NUM_GISTS, 16)}


def test_full_context_leaves_every_slot(engine: Engine, prompts: list[Prompt]) -> None:
    cache = ARMS["full"].read(engine.reader, prompts[:1])
    assert cache.num_slots == len(prompts[0].tokens.context)


def test_no_context_reads_nothing(prompts: list[Prompt]) -> None:
    """It is given a model that would fail at the first call."""

    class Unusable(torch.nn.Module):
        config = SimpleNamespace(bos_token_id=None)

        def forward(self, *_: object, **__: object) -> None:
            raise AssertionError("read the context")

    cache = ARMS["none"].read(Reader(Unusable(), (1, 2)), prompts)
    assert (cache.keys, cache.values, cache.num_slots, cache.num_bytes) == ((), (), 0, 0)


def test_no_context_keeps_the_token_that_starts_every_text(
    engine: Engine, prompts: list[Prompt]
) -> None:
    """Some tokenizers put one before every text; without it the control would be handicapped."""
    model: Any = engine.reader.model
    first = prompts[0].tokens.context[0]
    begun = [
        replace(
            prompt, tokens=PromptTokens([first, *prompt.tokens.context], prompt.tokens.question)
        )
        for prompt in prompts
    ]
    given, model.config.bos_token_id = model.config.bos_token_id, first
    try:
        cache = ARMS["none"].read(engine.reader, begun)
    finally:
        model.config.bos_token_id = given
    assert cache.num_slots == 1


def test_the_answer_without_context_depends_on_the_question_alone(
    engine: Engine, prompts: list[Prompt]
) -> None:
    nothing = replace(engine, arm=ARMS["none"])
    outputs = {
        nothing.respond([prompt], until=(), max_new_tokens=8)[0].output for prompt in prompts
    }
    assert len(outputs) == 1


def test_swapped_reproduces_its_donors_gists_exactly(
    engine: Engine, prompts: list[Prompt], tmp_path: Path
) -> None:
    reader = replace(engine.reader, store=GistStore(tmp_path, "cpu"))
    compress_and_share(reader, prompts)
    donor = compress(engine, prompts[1])
    swapped = replace(prompts[0], donor=prompts[1])
    # From the store, where the gist arm compressed a batch of several contexts, and anew.
    assert_same_cache(ARMS["swapped"].read(engine.reader, [swapped]), donor)
    stored = ARMS["swapped"].read(reader, [swapped])
    for mine, theirs in zip(
        (*stored.keys, *stored.values), (*donor.keys, *donor.values), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    compress_and_share(reader, [prompts[1]])
    assert_same_cache(ARMS["swapped"].read(reader, [swapped]), donor)


def test_swapped_does_not_read_again_what_the_gist_arm_compressed(
    engine: Engine, prompts: list[Prompt], tmp_path: Path
) -> None:
    reader = replace(engine.reader, store=GistStore(tmp_path, "cpu"))
    compress_and_share(reader, prompts)
    deaf = replace(reader, model=torch.nn.Identity())
    swapped = replace(prompts[0], donor=prompts[2])
    assert ARMS["swapped"].read(deaf, [swapped]).num_slots == NUM_GISTS


def test_swapped_refuses_a_donor_with_the_same_answer(
    engine: Engine, prompts: list[Prompt]
) -> None:
    twin = replace(prompts[1], answer=prompts[0].answer)
    for donor in (None, twin):
        with pytest.raises(ValueError, match="no donor with another answer"):
            ARMS["swapped"].read(engine.reader, [replace(prompts[0], donor=donor)])


def test_swapped_answers_as_its_donor_would(engine: Engine, prompts: list[Prompt]) -> None:
    """The question is the same in every sample, so only the gists can make a difference."""
    own = engine.respond([prompts[1]], until=(), max_new_tokens=8)[0]
    swapped = replace(engine, arm=ARMS["swapped"])
    prompt = replace(prompts[0], donor=prompts[1])
    other = swapped.respond([prompt], until=(), max_new_tokens=8)[0]
    assert other.output == own.output
    assert other.donor_sample_id == prompts[1].sample_id


def test_controls_come_with_the_arms_they_belong_to() -> None:
    assert with_controls(("gist", "full")) == ("gist", "full", "swapped", "none")
    assert with_controls(("full",)) == ("full", "none")
    with pytest.raises(UsageError, match="did you mean 'full'"):
        with_controls(("fulll",))


@pytest.mark.parametrize("name", ["gist", "full", "full-tuned", "swapped", "mean-pool-7"])
def test_chunks_leave_every_arm_its_cache(name: str, engine: Engine, prompts: list[Prompt]) -> None:
    """And no pass is longer than a chunk."""
    arm = find_arm(name)
    pair = [replace(prompts[0], donor=prompts[1])]
    expected = arm.read(engine.reader, pair)
    longest: list[int] = []

    def watch(_: Any, arguments: Any, options: dict[str, Any]) -> None:
        longest.append(options["input_ids"].shape[1])

    hook = engine.reader.model.register_forward_pre_hook(watch, with_kwargs=True)
    try:
        got = arm.read(replace(engine.reader, chunk_tokens=50), pair)
    finally:
        hook.remove()
    assert max(longest) == 50
    assert got.layout == expected.layout
    for one, other in zip(
        (*got.keys, *got.values), (*expected.keys, *expected.values), strict=True
    ):
        assert (one - other).abs().max() < 1e-5 * other.abs().max()
