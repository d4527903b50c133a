"""Claims about contexts that are spread over more positions than they have tokens."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from gistbench.errors import UsageError
from gistbench.models.adapter import add_gist_rows
from gistbench.models.catalog import find_model
from gistbench.models.loading import BaseModel, load_base, load_tokenizer
from gistbench.training.curriculum import Curriculum
from gistbench.training.data import SampleBatches
from gistbench.training.examples import Example, Gap, Turn, build_example, collate
from gistbench.training.objective import answer_logits, layout_of
from gistbench.training.room import check_room
from tests.fixtures.tiny_base import NUM_GISTS, tiny_config

SHORT = Example([11, 12, 13], (Turn([21, 22], [31, 32]),), gap=Gap(1, 40))
LONG = Example([41, 42, 43, 44, 45], (Turn([51, 52, 53], [61, 62, 63, 64]),))


@pytest.fixture
def base(tiny_base: Path) -> BaseModel:
    return load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu")


@pytest.mark.parametrize("apart", [False, True])
@torch.inference_mode()
def test_what_stands_before_a_gap_is_as_far_away_as_if_the_rest_stood_behind_it(
    base: BaseModel, apart: bool
) -> None:
    """Against a pass that moves the rest forward, to positions that there are."""
    gist_ids = add_gist_rows(base.model, NUM_GISTS)
    rows = collate([SHORT, LONG], gist_ids)
    layout = layout_of(rows, NUM_GISTS)
    ours = answer_logits(base.model, rows, layout, answers_only=True, apart=apart)
    positions = layout.joint_positions(rows["suffix_ids"].shape[1])
    behind = layout.prefix_padding[0] + 1
    positions[0, behind:] += 40
    ids = torch.cat([rows["prefix_ids"], rows["suffix_ids"]], dim=1)
    theirs = base.model(input_ids=ids, position_ids=positions, layout=layout, use_cache=False)
    num_answer = rows["labels"].shape[1]
    expected = theirs.logits[:, -(num_answer + 1) : -1]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    near = rows | {"gaps": torch.zeros_like(rows["gaps"])}
    without = answer_logits(base.model, near, layout, answers_only=True, apart=apart)
    assert not torch.allclose(ours[0], without[0], rtol=1e-3, atol=1e-3), "a gap changes nothing"
    assert torch.equal(ours[1], without[1]), "another row's gap changes this one"


def test_half_of_the_contexts_have_a_gap_behind_a_sentence_and_no_token_changes(
    tiny_base: Path,
) -> None:
    tokenizer = load_tokenizer(tiny_base)
    plain, spread = (
        [
            build_example(
                tokenizer,
                task="niah_passkey",
                context_tokens=160,
                index=index,
                seed=0,
                position_span=span,
            )
            for index in range(60)
        ]
        for span in (None, 400)
    )
    assert not any(example.gap for example in plain)
    assert [(e.context, e.turns) for e in spread] == [(e.context, e.turns) for e in plain]
    gaps = [(example.context, example.gap) for example in spread if example.gap]
    assert 15 < len(gaps) < 45
    for context, gap in gaps:
        before = tokenizer.decode(context[: gap.token]).rstrip()
        assert gap.token == len(context) or before[-1] in ".!?"
    lengths = [gap.positions for _, gap in gaps]
    assert 1 <= min(lengths) < 60 and 180 < max(lengths) <= 240
    assert len({gap.token for _, gap in gaps}) > 10


@pytest.mark.parametrize(("span", "any_gap"), [(None, False), (160, False), (300, True)])
def test_batches_have_gaps_where_the_configuration_spreads_contexts(
    tiny_base: Path, span: int | None, any_gap: bool
) -> None:
    config = tiny_config(tiny_base, data={"position_span": span, "num_workers": 0})
    tokenizer = load_tokenizer(tiny_base)
    rows = list(islice(SampleBatches(config, Curriculum(config), tiny_base, tokenizer, ()), 6))
    assert any(bool((batch["gaps"][:, 1] > 0).any()) for batch in rows) == any_gap


def test_tasks_that_are_trained_alone_have_no_gaps(tiny_base: Path) -> None:
    fields = {
        "tasks": ("niah_passkey", "niah_two_questions"),
        "first_tasks": ("niah_two_questions",),
        "position_span": 300,
    }
    curriculum = Curriculum(tiny_config(tiny_base, data=fields))
    assert curriculum.plan(0).position_span is None
    curriculum.stage = 1
    assert curriculum.plan(0).position_span == 300


def test_a_span_without_room_for_a_gap_is_refused(tiny_base: Path, base: BaseModel) -> None:
    check_room(tiny_config(tiny_base, data={"position_span": 300}), base)
    for span in (159, base.max_positions):
        with pytest.raises(UsageError, match=r"between data\.context_tokens 160 and the"):
            check_room(tiny_config(tiny_base, data={"position_span": span}), base)


def test_a_span_goes_with_no_segments(tiny_base: Path, base: BaseModel) -> None:
    config = tiny_config(tiny_base, data={"position_span": 300}, adapter={"gist_view": "segments"})
    with pytest.raises(UsageError, match="leave one of them out"):
        check_room(config, base)
