"""Chunks change nothing; segments are one masked pass in which the context before is not seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gistbench.core.cache import ContextCache, stack
from gistbench.core.footprint import Architecture
from gistbench.core.layout import pad_left
from gistbench.models import reading
from gistbench.models.cache import open_cache
from gistbench.models.decode import answer, continue_layout, read_contexts
from gistbench.models.reading import read_in_segments, segment_lengths
from tests.models.test_attention import FLOAT32

CACHE = 1e-5
"""Largest difference of a cached float32 key or value, relative to the largest of its layer."""

VIEWS = pytest.mark.parametrize("segmented", [False, True], ids=["whole view", "parts"])


def assert_same_cache(got: ContextCache, expected: ContextCache) -> None:
    assert got.layout == expected.layout
    for one, other in zip(
        (*got.keys, *got.values), (*expected.keys, *expected.values), strict=True
    ):
        real = torch.ones_like(other)
        for row, padding in enumerate(expected.layout.visible_padding):
            real[row, :, :padding] = 0
        assert ((one - other) * real).abs().max() <= CACHE * other.abs().max()


def logits(model: Any, context: ContextCache, questions: list[list[int]]) -> torch.Tensor:
    ids, padding = pad_left(questions, 0)
    layout = continue_layout(context, padding)
    with torch.inference_mode():
        return model(
            input_ids=ids,
            position_ids=layout.suffix_positions(0, ids.shape[1]),
            past_key_values=open_cache(context, room=ids.shape[1]),
            use_cache=True,
            layout=layout,
        ).logits


# -------------------------------------------------------------------------------------- in chunks


@VIEWS
@pytest.mark.parametrize("chunk_tokens", [1, 5, 8, 23])
def test_chunks_leave_the_cache_that_one_pass_leaves(
    tiny: Any, make_batch: Any, chunk_tokens: int, segmented: bool
) -> None:
    batch = make_batch()
    options = {"gist_ids": batch.gist_ids, "segmented": segmented}
    expected = read_contexts(tiny, batch.contexts, **options)
    got = read_contexts(tiny, batch.contexts, **options, chunk_tokens=chunk_tokens)
    assert_same_cache(got, expected)
    one, other = (logits(tiny, cache, batch.questions) for cache in (got, expected))
    real = batch.real()
    assert (one - other).abs()[real].max() < FLOAT32


@pytest.mark.parametrize("chunk_tokens", [3, 8])
def test_chunks_of_a_whole_context_leave_all_of_it(
    tiny: Any, make_batch: Any, chunk_tokens: int
) -> None:
    batch = make_batch((21, 12, 4, 30), gist_ids=())
    expected = read_contexts(tiny, batch.contexts, keep_all=True)
    got = read_contexts(tiny, batch.contexts, keep_all=True, chunk_tokens=chunk_tokens)
    assert_same_cache(got, expected)


def test_a_chunk_as_long_as_the_prefix_is_one_pass(make_tiny: Any, make_batch: Any) -> None:
    model, batch = make_tiny("llama"), make_batch()
    expected = read_contexts(model, batch.contexts, gist_ids=batch.gist_ids)
    for chunk_tokens in (24, 25, 1000):
        got = read_contexts(
            model, batch.contexts, gist_ids=batch.gist_ids, chunk_tokens=chunk_tokens
        )
        for one, other in zip(got.keys, expected.keys, strict=True):
            assert torch.equal(one, other)


def test_chunks_keep_no_more_than_the_gists(make_tiny: Any, make_batch: Any) -> None:
    model, batch = make_tiny("llama"), make_batch()
    cache = read_contexts(model, batch.contexts, gist_ids=batch.gist_ids, chunk_tokens=5)
    for tensor in (*cache.keys, *cache.values):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_hooks_that_drop_slots_and_chunks_are_not_combined(make_tiny: Any) -> None:
    with pytest.raises(ValueError, match="chunks of 2"):
        read_contexts(make_tiny("llama"), [[1, 2, 3]], keep_all=True, num_left=2, chunk_tokens=2)


# ------------------------------------------------------------------------------------ in segments


def one_masked_pass(
    passes: Any, model: Any, context: list[int], question: list[int], options: dict[str, Any]
) -> torch.Tensor:
    """An ordinary model over segments, gists and question in a row, given a mask spelled out."""
    gist_ids, segmented = options["gist_ids"], options["segmented"]
    ids: list[int] = []
    positions: list[int] = []
    sees: list[set[int]] = []
    gists: list[int] = []  # slots of all gists so far
    start = 0
    for length in segment_lengths(len(context), options["segment_tokens"]):
        first = len(ids)
        earlier = set(gists)
        for place, token in enumerate(context[start : start + length]):
            ids.append(token)
            positions.append(first + place)
            sees.append(earlier | set(range(first, first + place + 1)))
        for number, token in enumerate(gist_ids):
            slot, part = len(ids), (0, length)
            position = slot
            if segmented:
                part = (
                    length * number // len(gist_ids),
                    length * (number + 1) // len(gist_ids),
                )
                position = first + part[1] + number
            own = set(range(first + length, slot + 1))
            ids.append(token)
            positions.append(position)
            sees.append(earlier | own | set(range(first + part[0], first + part[1])))
            gists.append(slot)
        start += length
    for token in question:
        slot = len(ids)
        ids.append(token)
        positions.append(slot)
        sees.append(set(gists) | set(range(slot - len(question), slot + 1)))
    for place in range(len(question)):  # a question's token sees its own question only so far
        slot = len(ids) - len(question) + place
        sees[slot] = set(gists) | set(range(len(ids) - len(question), slot + 1))
    at = torch.tensor(positions)
    allowed = torch.zeros(len(ids), len(ids), dtype=torch.bool)
    for slot, keys in enumerate(sees):
        allowed[slot, list(keys)] = True

    def mask(window: int | None) -> torch.Tensor:
        near = allowed if window is None else allowed & (at[:, None] - at < window)
        return near[None, None]

    plain = passes.ordinary(model)
    window = getattr(plain.config, "sliding_window", None)
    masks: Any = mask(window if plain.config.model_type == "mistral" else None)
    if "sliding_attention" in (getattr(plain.config, "layer_types", None) or ()):
        masks = {"full_attention": mask(None), "sliding_attention": mask(window)}
    with torch.inference_mode():
        output = plain(
            input_ids=torch.tensor([ids]),
            position_ids=at[None],
            attention_mask=masks,
            use_cache=False,
        )
    return output.logits[:, -len(question) :]


@VIEWS
@pytest.mark.parametrize("chunk_tokens", [None, 4])
def test_segments_are_one_pass_of_an_ordinary_model_with_a_mask(
    tiny: Any, passes: Any, make_batch: Any, segmented: bool, chunk_tokens: int | None
) -> None:
    batch = make_batch((29,), (6,))
    options = {"gist_ids": batch.gist_ids, "segment_tokens": 8, "segmented": segmented}
    context, question = batch.contexts[0], batch.questions[0]
    cache = read_in_segments(tiny, context, **options, chunk_tokens=chunk_tokens)
    assert cache.num_slots == 4 * len(batch.gist_ids)
    got = logits(tiny, cache, [question])
    expected = one_masked_pass(passes, tiny, context, question, options)
    assert (got - expected).abs().max() < FLOAT32


@VIEWS
def test_one_segment_is_an_ordinary_read(tiny: Any, make_batch: Any, segmented: bool) -> None:
    batch = make_batch((21,), (3,))
    expected = read_contexts(tiny, batch.contexts, gist_ids=batch.gist_ids, segmented=segmented)
    got = read_in_segments(
        tiny, batch.contexts[0], gist_ids=batch.gist_ids, segment_tokens=21, segmented=segmented
    )
    assert got.layout == expected.layout
    for one, other in zip(
        (*got.keys, *got.values), (*expected.keys, *expected.values), strict=True
    ):
        assert torch.equal(one, other)


def test_what_a_segment_wrote_stays_and_reaches_those_behind_it(
    make_tiny: Any, make_batch: Any
) -> None:
    model, batch = make_tiny("llama-tied-3-layers"), make_batch((24,), (3,))
    context = batch.contexts[0]

    def values(changed: int | None) -> torch.Tensor:
        """Last layer's, of gists 0 .. 3, 3 .. 6, 6 .. 9 in three segments of eight tokens."""
        tokens = list(context)
        if changed is not None:
            tokens[changed] = (tokens[changed] + 1) % 58
        cache = read_in_segments(model, tokens, gist_ids=batch.gist_ids, segment_tokens=8)
        return cache.values[-1]

    plain = values(None)
    late, early = values(20), values(3)
    assert torch.equal(plain[:, :, :6], late[:, :, :6])
    assert not torch.equal(plain[:, :, 6:], late[:, :, 6:])
    for first in (0, 3, 6):
        assert not torch.equal(plain[:, :, first : first + 3], early[:, :, first : first + 3])


@VIEWS
def test_segments_of_any_number_share_a_batch_with_ordinary_reads(
    tiny: Any, make_batch: Any, segmented: bool
) -> None:
    batch = make_batch((29, 21, 9, 4), (9, 2, 6, 1))
    options = {"gist_ids": batch.gist_ids, "segmented": segmented}
    caches = [
        read_in_segments(tiny, batch.contexts[0], segment_tokens=8, **options),
        read_in_segments(tiny, batch.contexts[1], segment_tokens=12, **options),
        *(read_contexts(tiny, [context], **options) for context in batch.contexts[2:]),
    ]
    joined = stack(caches)
    together = logits(tiny, joined, batch.questions)
    chosen = stack([joined.row(2), joined.row(0)]).select([1, 0, 1])
    for row, (cache, question) in enumerate(zip(caches, batch.questions, strict=True)):
        alone = logits(tiny, cache, [question])
        assert (together[row, -len(question) :] - alone[0]).abs().max() < FLOAT32
        again = logits(tiny, joined.row(row), [question])
        assert (again - alone).abs().max() < FLOAT32
    picked = logits(tiny, chosen, [batch.questions[0]] * 3)
    assert (picked[0] - together[0]).abs().max() < FLOAT32
    assert (picked[2] - together[0]).abs().max() < FLOAT32


def test_answers_from_segments_in_a_batch_are_those_of_each_alone(
    make_tiny: Any, make_batch: Any
) -> None:
    model, batch = make_tiny("llama"), make_batch((60, 9, 33), (5, 5, 2))
    caches = [
        read_in_segments(model, context, gist_ids=batch.gist_ids, segment_tokens=8)
        for context in batch.contexts
    ]
    options: dict[str, Any] = {
        "max_new_tokens": 9,
        "is_done": lambda _: False,
        "num_text_tokens": 58,
    }
    together = answer(model, stack(caches), batch.questions, **options).tokens
    for cache, question, tokens in zip(caches, batch.questions, together, strict=True):
        assert answer(model, cache, [question], **options).tokens == [tokens]


# ---------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("architecture", ["llama", "gpt-neox", "gemma3-window-6"])
@pytest.mark.parametrize(
    ("segment_tokens", "chunk_tokens"), [(45, None), (45, 10), (8, None), (8, 4), (8, 11), (8, 10)]
)
def test_cache_holds_the_predicted_bytes_while_it_reads(
    architecture: str,
    segment_tokens: int,
    chunk_tokens: int | None,
    make_tiny: Any,
    make_batch: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batch = make_tiny(architecture), make_batch((45,), (3,))
    held: list[int] = []
    sound = reading.collecting_cache

    def watched(*arguments: Any, **options: Any) -> Any:
        cache = sound(*arguments, **options)

        def count(*_: Any) -> None:
            tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
            if options["memory"] is not None:
                tensors += [*options["memory"].keys, *options["memory"].values]
            stored = {
                tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
                for tensor in tensors
            }
            held.append(sum(stored.values()))

        hooks.append(model.register_forward_hook(count))
        return cache

    hooks: list[Any] = []
    monkeypatch.setattr(reading, "collecting_cache", watched)
    cache = read_in_segments(
        model,
        batch.contexts[0],
        gist_ids=batch.gist_ids,
        segment_tokens=segment_tokens,
        chunk_tokens=chunk_tokens,
    )
    fields = {**model.config.to_dict(), "model_type": model.config.model_type}
    segments = segment_lengths(45, segment_tokens)
    predicted = Architecture.of(fields).reading_bytes(
        "float32", segments, 3, chunk_tokens=chunk_tokens
    )
    assert max(held) == predicted
    per_token = Architecture.of(fields).key_value_bytes_per_token("float32")
    assert cache.num_bytes == 3 * len(segments) * per_token


@pytest.mark.parametrize(
    ("num_tokens", "segment_tokens", "lengths"),
    [(29, 8, [7, 7, 7, 8]), (8, 8, [8]), (9, 8, [4, 5]), (0, 8, [0]), (3, 1, [1, 1, 1])],
)
def test_segments_are_few_and_of_nearly_equal_length(
    num_tokens: int, segment_tokens: int, lengths: list[int]
) -> None:
    assert segment_lengths(num_tokens, segment_tokens) == lengths
