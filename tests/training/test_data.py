"""Claims about training batches."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from gistbench import generators
from gistbench.config import TrainConfig
from gistbench.errors import DoesNotFitError, UsageError
from gistbench.models.loading import load_tokenizer
from gistbench.training import data
from gistbench.training.curriculum import NUM_FRESH, Curriculum
from gistbench.training.data import SampleBatches
from gistbench.training.examples import IGNORED, Example, Turn, build_example, collate
from gistbench.training.objective import layout_of
from tests.fixtures.tiny_base import tiny_config

GISTS = (1000, 1001, 1002, 1003)
SHORT = Example([11, 12, 13], (Turn([21, 22], [31, 32]),))
LONG = Example([41, 42, 43, 44, 45], (Turn([51, 52, 53], [61, 62, 63, 64]),))


def batches(config: TrainConfig, base: Path, count: int) -> list[dict[str, torch.Tensor]]:
    source = SampleBatches(config, Curriculum(config), base, load_tokenizer(base), GISTS)
    try:
        return list(islice(source, count))
    finally:
        source.close()


def test_gists_end_the_prefix_of_every_row() -> None:
    batch = collate([SHORT, LONG], GISTS)
    assert batch["prefix_ids"].shape[1] == len(LONG.context) + len(GISTS)
    gists = batch["prefix_ids"][:, -len(GISTS) :]
    assert gists.tolist() == [list(GISTS)] * 2


def test_labels_are_exactly_the_answers_and_end_where_the_rows_end() -> None:
    batch = collate([SHORT, LONG], GISTS)
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 31, 32], [61, 62, 63, 64]]
    ends = batch["suffix_ids"][:, -4:]
    supervised = batch["labels"] != IGNORED
    assert torch.equal(ends[supervised], batch["labels"][supervised])


def test_both_parts_are_padded_on_their_left_and_the_layout_says_by_how_much() -> None:
    batch = collate([SHORT, LONG], GISTS)
    layout = layout_of(batch, len(GISTS))
    assert layout.prefix_padding == (2, 0)
    assert layout.suffix_padding == (3, 0)
    assert layout.num_visible == len(GISTS)
    turn = SHORT.turns[0]
    assert batch["suffix_ids"][0, 3:].tolist() == [*turn.question, *turn.answer]
    assert batch["prefix_ids"][0, 2:].tolist() == [*SHORT.context, *GISTS]


def test_a_batch_is_tensors_alone() -> None:
    assert all(isinstance(part, torch.Tensor) for part in collate([SHORT, LONG], GISTS).values())


def test_an_example_is_the_sample_with_its_answer_and_the_end(tiny_base: Path) -> None:
    tokenizer = load_tokenizer(tiny_base)
    example = build_example(tokenizer, task="niah_passkey", context_tokens=160, index=3, seed=5)
    sample = generators.generator("niah_passkey").build_sample(
        tokenizer, task="niah_passkey", split="train", context_tokens=160, index=3, seed=5
    )
    assert len(example.context) == 160
    (turn,) = example.turns
    assert tokenizer.decode(example.context + turn.question) == sample.prompt
    assert tokenizer.decode(turn.answer) == f" {sample.answer}\n"


@pytest.mark.parametrize(
    ("task", "num_questions", "asked"),
    [("niah_labelled_4", 9, 5), ("niah_labelled_4", 3, 3), ("niah_two_questions", 4, 2)],
)
def test_one_context_answers_several_questions_each_with_its_own_answer(
    tiny_base: Path, task: str, num_questions: int, asked: int
) -> None:
    tokenizer = load_tokenizer(tiny_base)
    options = {"task": task, "context_tokens": 256, "index": 3, "seed": 5}
    one = build_example(tokenizer, **options)
    several = build_example(tokenizer, **options, num_questions=num_questions)
    assert several.context == one.context
    assert several.turns[0] == one.turns[0]
    assert len({tuple(turn.question) for turn in several.turns}) == asked
    assert len({tuple(turn.answer) for turn in several.turns}) == asked
    text = tokenizer.decode(several.context)
    for turn in several.turns:
        stated = tokenizer.decode(turn.answer).strip().split(", ")
        places = [text.index(word) for pair in stated for word in pair.split()]
        assert all(text.count(word) == 1 for pair in stated for word in pair.split()[1:])
        if "and for whom" in tokenizer.decode(turn.question):
            assert len(stated) == 4
            assert places[1::2] == sorted(places[1::2])
        else:
            assert len(stated) == 1


def test_workers_change_nothing(tiny_base: Path) -> None:
    """Also across stages and replays, where batches made ahead may be dropped."""
    changes = {"curriculum": (140,), "replay": 0.4, "length_jitter": 0.02}
    alone, helped = (
        batches(tiny_config(tiny_base, data={**changes, "num_workers": workers}), tiny_base, 9)
        for workers in (0, 2)
    )
    for one, other in zip(alone, helped, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_batches_ahead_are_dropped_when_the_stage_changes(tiny_base: Path) -> None:
    config = tiny_config(tiny_base, data={"curriculum": (140,), "num_workers": 1})
    made = []
    for workers in (0, 1):
        chosen = tiny_config(tiny_base, data={"curriculum": (140,), "num_workers": workers})
        curriculum = Curriculum(chosen)
        source = SampleBatches(chosen, curriculum, tiny_base, load_tokenizer(tiny_base), GISTS)
        try:
            stream = iter(source)
            before = [next(stream) for _ in range(2)]
            curriculum.stage = 1
            made.append([*before, *(next(stream) for _ in range(2))])
        finally:
            source.close()
    lengths = [batch["prefix_ids"].shape[1] - len(GISTS) for batch in made[0]]
    assert lengths == [140, 140, config.data.context_tokens, config.data.context_tokens]
    for one, other in zip(*made, strict=True):
        assert torch.equal(one["prefix_ids"], other["prefix_ids"])


def test_a_fresh_sample_that_fits_no_short_context_is_drawn_again(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def first_draws_do_not_fit(*args: Any, index: int, **named: Any) -> Example:
        asked.append(index)
        if index < 3 * NUM_FRESH:
            raise DoesNotFitError("too small; ask for at least 150")
        return build_example(*args, index=index, **named)

    monkeypatch.setattr(data, "build_example", first_draws_do_not_fit)
    (batch,) = batches(tiny_config(tiny_base, data={"num_workers": 0}), tiny_base, 1)
    assert len(asked) == 4 * len(batch["prefix_ids"])
    assert asked[:4] == [asked[0] + draw * NUM_FRESH for draw in range(4)]
    fixed = tiny_config(tiny_base, data={"num_workers": 0, "num_samples": 8})
    with pytest.raises(UsageError, match="at least 150"):
        batches(fixed, tiny_base, 1)


def test_what_is_wrong_with_every_sample_is_said_at_the_first(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def no_sample(*_: Any, index: int, **__: Any) -> Example:
        asked.append(index)
        raise UsageError("not a fast tokenizer")

    monkeypatch.setattr(data, "build_example", no_sample)
    with pytest.raises(UsageError, match="not a fast tokenizer"):
        batches(tiny_config(tiny_base, data={"num_workers": 0}), tiny_base, 1)
    assert len(asked) == 1


def test_a_needle_too_long_for_its_context_is_told_from_every_other_refusal(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(tiny_base)
    options = {"task": "niah_passkey", "context_tokens": 4, "index": 0, "seed": 0}
    with pytest.raises(DoesNotFitError, match="too small in this tokenizer for the needle"):
        build_example(tokenizer, **options)
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(UsageError, match="not a fast tokenizer") as caught:
        build_example(tokenizer, **options)
    assert not isinstance(caught.value, DoesNotFitError)


def test_a_stream_started_later_continues_the_same_series(tiny_base: Path) -> None:
    config = tiny_config(tiny_base)
    whole = batches(config, tiny_base, 4)
    source = SampleBatches(config, Curriculum(config), tiny_base, load_tokenizer(tiny_base), GISTS)
    source.start = 2
    for one, other in zip(whole[2:], islice(source, 2), strict=True):
        assert torch.equal(one["prefix_ids"], other["prefix_ids"])


NIAH = generators.generator("niah_passkey")
TRAINED = sorted(name for name, task in NIAH.TASKS.items() if task.trained)


@pytest.mark.parametrize("task", TRAINED)
def test_no_key_that_is_trained_is_ever_tested(tiny_base: Path, task: str) -> None:
    config = tiny_config(
        tiny_base, data={"tasks": (task,), "context_tokens": 900}, training={"max_batch_size": 8}
    )
    tokenizer = load_tokenizer(tiny_base)
    niah = generators.generator(task)
    documents = niah.documents
    labels = {
        label: split
        for split in ("train", "test")
        for words in (niah.needles.labels, documents.themes, documents.coded_words)
        for label in words(split)
    }

    def splits(answer: str) -> set[str]:
        values = [value for value in answer.split(", ") if value != niah.NONE]
        return {labels.get(value) or niah.needles.key_split(value) for value in values}

    answers = [
        tokenizer.decode(row[row != IGNORED]).strip()
        for batch in batches(config, tiny_base, 4)
        for row in batch["labels"]
    ]
    assert set().union(*map(splits, answers)) == {"train"}
    for index in range(20):
        tested = niah.build_sample(
            tokenizer,
            task=task,
            split="test",
            context_tokens=900,
            index=index,
            seed=0,
        )
        assert splits(tested.answer) <= {"test"}
