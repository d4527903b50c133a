"""Claims about pooled caches: what is left of a group is its mean, at its middle position."""

from __future__ import annotations

import pytest
import torch

from gistbench.core.cache import ContextCache, stack
from gistbench.core.layout import GistLayout
from gistbench.core.pooling import mean_pooled

HEAD_DIM = 8
FREQUENCIES = 1.0 / (100.0 ** (torch.arange(0, HEAD_DIM, 2) / HEAD_DIM))


def rotated(keys: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Keys ``(..., length, HEAD_DIM)`` as RoFormer defines them: pairs as complex numbers."""
    pairs = torch.complex(*(half.double() for half in keys.chunk(2, dim=-1)))
    angles = position.double().unsqueeze(1) * FREQUENCIES.double()
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag], dim=-1).float()


def whole(length: int, padding: tuple[int, ...] = (0,), seed: int = 0) -> ContextCache:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(padding), 2, length, HEAD_DIM)
    layout = GistLayout(length, length, padding, (0,) * len(padding), "suffix")
    keys, values = (
        tuple(torch.randn(shape, generator=generator) for _ in range(2)) for _ in range(2)
    )
    return ContextCache(keys, values, layout)


def test_as_many_slots_as_tokens_change_no_bit() -> None:
    cache = whole(13)
    pooled = mean_pooled(cache, 13, FREQUENCIES)
    assert pooled.layout == cache.layout
    for mine, theirs in zip(
        (*pooled.keys, *pooled.values), (*cache.keys, *cache.values), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_one_slot_holds_the_mean_of_the_values() -> None:
    cache = whole(13)
    pooled = mean_pooled(cache, 1, FREQUENCIES)
    for mine, theirs in zip(pooled.values, cache.values, strict=True):
        torch.testing.assert_close(mine, theirs.mean(dim=2, keepdim=True))


def test_keys_are_averaged_without_their_rotation_and_turned_to_the_middle() -> None:
    """Seven tokens to three slots: groups 0-1, 2-3 and 4-6."""
    plain = torch.randn(1, 2, 7, HEAD_DIM, generator=torch.Generator().manual_seed(1))
    keys = (rotated(plain, torch.arange(7)),)
    cache = ContextCache(keys, keys, GistLayout(7, 7, (0,), (0,), "suffix"))
    means = torch.stack([plain[:, :, a:b].mean(dim=2) for a, b in ((0, 2), (2, 4), (4, 7))], dim=2)
    expected = rotated(means, torch.tensor([0.5, 2.5, 5.0]))
    torch.testing.assert_close(mean_pooled(cache, 3, FREQUENCIES).keys[0], expected)


def test_the_mean_of_equal_keys_is_that_key_and_rotation_would_have_cancelled_it() -> None:
    plain = torch.ones(1, 1, 9, HEAD_DIM)
    keys = (rotated(plain, torch.arange(9)),)
    cache = ContextCache(keys, keys, GistLayout(9, 9, (0,), (0,), "suffix"))
    pooled = mean_pooled(cache, 1, FREQUENCIES).keys[0]
    torch.testing.assert_close(pooled, keys[0][:, :, 4:5])
    assert keys[0].mean(dim=2).norm() < 0.8 * pooled.norm()


def test_entries_beyond_the_rotary_ones_are_averaged_as_they_are() -> None:
    cache = whole(6)
    pooled = mean_pooled(cache, 2, FREQUENCIES[:2])
    expected = cache.keys[0][:, :, :, 4:].unflatten(2, (2, 3)).mean(dim=3)
    torch.testing.assert_close(pooled.keys[0][..., 4:], expected)


def test_every_token_is_in_one_group_and_groups_differ_by_one_at_most() -> None:
    for length in (1, 2, 7, 64, 65):
        for num_slots in range(1, length + 1):
            values = torch.eye(length).view(1, 1, length, length)
            cache = ContextCache(
                (values,), (values,), GistLayout(length, length, (0,), (0,), "suffix")
            )
            weights = mean_pooled(cache, num_slots, FREQUENCIES[:0]).values[0][0, 0]
            sizes = (weights > 0).sum(dim=1)
            assert sizes.sum() == length
            assert sizes.max() - sizes.min() <= 1
            torch.testing.assert_close(weights.sum(dim=1), torch.ones(num_slots))


def test_padding_is_in_no_mean_and_the_question_goes_on_where_the_context_ended() -> None:
    batch = whole(12, (0, 5))
    pooled = mean_pooled(batch, 3, FREQUENCIES)
    alone = mean_pooled(batch.row(1), 3, FREQUENCIES)
    assert torch.equal(pooled.row(1).keys[1], alone.keys[1])
    positions = pooled.layout.suffix_positions(0, 1)
    assert positions.tolist() == [[12], [7]]
    assert stack([mean_pooled(batch.row(0), 3, FREQUENCIES), alone]).layout == pooled.layout


def test_means_keep_the_precision_of_the_cache_and_memory_of_their_own() -> None:
    cache = whole(12)
    halves = ContextCache(
        tuple(key.bfloat16() for key in cache.keys),
        tuple(value.bfloat16() for value in cache.values),
        cache.layout,
    )
    for tensor in (pooled := mean_pooled(halves, 4, FREQUENCIES)).keys:
        assert tensor.dtype == torch.bfloat16
        assert tensor.untyped_storage().nbytes() == tensor.numel() * 2
    assert pooled.num_bytes == 2 * 2 * 2 * 4 * HEAD_DIM * 2


def test_what_cannot_be_pooled_is_refused() -> None:
    with pytest.raises(ValueError, match="5 slots cannot be averaged into 6"):
        mean_pooled(whole(5), 6, FREQUENCIES)
    layout = GistLayout(9, 3, (0,), (0,), "suffix")
    tensor = torch.zeros(1, 2, 3, HEAD_DIM)
    with pytest.raises(ValueError, match="only a whole context can be pooled"):
        mean_pooled(ContextCache((tensor,), (tensor,), layout), 2, FREQUENCIES)
