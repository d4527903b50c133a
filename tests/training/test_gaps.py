"""Claims about contexts that are spread over more positions than they have tokens."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import Any

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
BEHIND_ALL = Example([14, 15], (Turn([23, 24], [33, 34]),), gap=Gap(2, 25))


@pytest.fixture
def base(tiny_base: Path) -> BaseModel:
    return load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu")


@pytest.mark.parametrize(
    ("num_gists", "apart"), [(NUM_GISTS, False), (NUM_GISTS, True), (0, False)]
)
@torch.inference_mode()
def test_what_stands_before_a_gap_is_as_far_away_as_if_the_rest_stood_behind_it(
    base: BaseModel, num_gists: int, apart: bool
) -> None:
    """Against a pass that moves the rest forward, to positions that there are."""
    gist_ids = add_gist_rows(base.model, num_gists) if num_gists else ()
    rows = collate([SHORT, LONG, BEHIND_ALL], gist_ids)
    layout = layout_of(rows, num_gists or None)
    ours = answer_logits(base.model, rows, layout, answers_only=True, apart=apart)
    positions = layout.joint_positions(rows["suffix_ids"].shape[1])
    positions[0, layout.prefix_padding[0] + 1 :] += 40
    positions[2, layout.prefix_padding[2] + 2 :] += 25
    ids = torch.cat([rows["prefix_ids"], rows["suffix_ids"]], dim=1)
    theirs = base.model(input_ids=ids, position_ids=positions, layout=layout, use_cache=False)
    num_answer = rows["labels"].shape[1]
    expected = theirs.logits[:, -(num_answer + 1) : -1]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    near = rows | {"gaps": torch.zeros_like(rows["gaps"])}
    without = answer_logits(base.model, near, layout, answers_only=True, apart=apart)
    for row in (0, 2):
        assert not torch.allclose(ours[row], without[row], rtol=1e-3, atol=1e-3), "nothing changes"
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
    def check(span: int) -> None:
        check_room(tiny_config(tiny_base, data={"position_span": span}), base)

    with pytest.raises(UsageError, match=r"above data\.context_tokens 160") as refused:
        check(160)
    stated = re.search(r"at most the ([\d,]+) positions", str(refused.value))
    assert stated is not None
    most = int(stated[1].replace(",", ""))
    assert 160 < most < base.max_positions - NUM_GISTS
    check(most)
    with pytest.raises(UsageError, match=r"mend --data\.position-span"):
        check(most + 1)


@pytest.mark.parametrize(
    ("other", "match"),
    [
        ({"adapter": {"gist_view": "segments"}}, "leave one of them out"),
        ({"weights": "random"}, "random weights learn nothing"),
    ],
)
def test_a_span_that_does_nothing_is_refused(
    tiny_base: Path, base: BaseModel, other: dict[str, Any], match: str
) -> None:
    config = tiny_config(tiny_base, data={"position_span": 300}, **other)
    with pytest.raises(UsageError, match=match):
        check_room(config, base)


@pytest.mark.parametrize(
    ("window", "slides", "refused"), [(8, None, True), (8, False, False), (999, None, False)]
)
def test_a_span_wider_than_the_model_sees_back_is_refused(
    tiny_base: Path, base: BaseModel, window: int, slides: bool | None, refused: bool
) -> None:
    """A window is counted in slots, so that what lies behind a gap would still be seen."""
    base.model.config.sliding_window = window
    if slides is not None:
        base.model.config.use_sliding_window = slides
    config = tiny_config(tiny_base, data={"position_span": 300})
    if not refused:
        check_room(config, base)
        return
    with pytest.raises(UsageError, match="further than their 8 tokens; leave it out"):
        check_room(config, base)
