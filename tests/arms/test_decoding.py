"""The loop that answers is a setting of the run: every arm gives the same answers by either."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gistbench.arms.base import Prompt
from gistbench.arms.catalog import find_arm
from gistbench.bench.systems import steady_state
from gistbench.evaluation.engine import Engine
from gistbench.measurement import MemorySampler
from gistbench.models.static import StaticDecoding, decoding_loop
from tests.fixtures.engines import make_engine, make_prompt


@pytest.fixture(scope="module")
def engine(tiny_base: Path, tiny_checkpoint: Path) -> Engine:
    return make_engine("gist", tiny_base, tiny_checkpoint)


@pytest.fixture(scope="module")
def prompts(engine: Engine) -> list[Prompt]:
    made = [make_prompt(engine.base.tokenizer, index) for index in range(4)]
    return [replace(prompt, donor=made[index - 1]) for index, prompt in enumerate(made)]


@pytest.mark.parametrize(
    "arm", ["gist", "full", "full-tuned", "swapped", "none", "truncate-24", "mean-pool-8"]
)
def test_every_arm_gives_the_same_answers_by_either_loop(
    engine: Engine, prompts: list[Prompt], arm: str
) -> None:
    eager = replace(engine, arm=find_arm(arm))
    static = replace(eager, decoding=decoding_loop("static"))
    for batch in (prompts[:3], prompts[1:]):
        given, expected = (
            [
                response.model_dump(exclude={"timing"})
                for response in one.respond(batch, until=(" ",), max_new_tokens=12)
            ]
            for one in (static, eager)
        )
        assert given == expected


def test_buffers_are_freed_before_the_steady_state_is_measured(
    engine: Engine, prompts: list[Prompt]
) -> None:
    loop = StaticDecoding()
    static = replace(engine, decoding=loop)
    static.respond(prompts, until=(), max_new_tokens=4)
    assert loop._step is not None
    with MemorySampler("gist", "cpu") as sampler:
        steady_state(replace(static, device="cuda"), sampler, [], 0)
    assert loop._step is None
