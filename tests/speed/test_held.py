"""Contexts that are read to where they are answered from give the answers of the reference loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gistbench.models.decode import answer, read_contexts
from gistbench.speed.held import HeldBatch, Shape, block, context_layout, places_in, read_into

GISTS, QUESTION, NEW = (58, 59), 5, 9


def ids(count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(58, (count,), generator=generator).tolist()  # type: ignore[no-any-return]


def held_answers(
    model: Any, context: list[int], questions: torch.Tensor, gists: tuple[int, ...], at_once: int
) -> list[list[int]]:
    """First tokens and those behind them, every row's context in the batch's own memory."""
    layout = context_layout(len(context), len(gists), segmented=False)
    shape = Shape(model, layout.num_visible, torch.float32)
    rows = len(questions)
    slots = layout.num_visible + QUESTION + NEW
    batch = HeldBatch(model, shape, rows, slots, 58)
    read_into(model, [*context, *gists], layout, batch.places_of(0))
    batch.spread()
    read_into(model, [*context, *gists], layout, batch.places_of(rows - 1))
    with torch.inference_mode():
        for _ in range(2):  # asked again, nothing of the first time is left
            batch.ask_loaded(questions, layout.at("suffix"), at_once)
            batch.prepare()
            batch.run(NEW)
    assert batch.num_bytes == rows * slots * 2 * shape.layers * shape.row[0] * shape.row[2] * 4
    first = layout.num_visible + QUESTION
    found: list[list[int]] = batch.tokens[:, first : first + NEW + 1].tolist()
    batch.close()
    assert batch.num_bytes == 0
    return found


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gemma3-window-6", "gpt-neox", "mistral"])
@pytest.mark.parametrize("gists", [(), GISTS], ids=["full", "gist"])
def test_answers_are_those_of_the_reference_loop(
    make_tiny: Any, model_type: str, gists: tuple[int, ...]
) -> None:
    model = make_tiny(model_type)
    context = ids(40, 1)
    questions = torch.tensor([ids(QUESTION, seed) for seed in range(2, 5)])
    cache = read_contexts(model, [context], gist_ids=gists, keep_all=not gists)
    wanted = answer(
        model,
        cache.select([0, 0, 0]),
        questions.tolist(),
        max_new_tokens=NEW + 1,
        is_done=lambda _: False,
        num_text_tokens=58,
    ).tokens
    assert len({tuple(row) for row in wanted}) > 1, "one answer to all would show little"
    for at_once in (1, 2, 3, 99):
        assert held_answers(model, context, questions, gists, at_once) == wanted


def test_a_block_holds_what_a_run_keeps_and_nothing_else(make_tiny: Any) -> None:
    model, context = make_tiny("llama"), ids(40, 1)
    kept = read_contexts(model, [context], gist_ids=GISTS)
    layout = context_layout(40, len(GISTS), segmented=False)
    stored = block(Shape(model, len(GISTS), torch.float32))
    read_into(model, [*context, *GISTS], layout, places_in(stored))
    assert stored.numel() * stored.element_size() == kept.num_bytes
    for (keys, values), key, value in zip(places_in(stored), kept.keys, kept.values, strict=True):
        assert torch.equal(keys, key) and torch.equal(values, value)
