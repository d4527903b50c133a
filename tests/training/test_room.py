"""Claims about what is tried of a training's samples before its first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gistbench.errors import DoesNotFitError, UsageError
from gistbench.models.catalog import find_model
from gistbench.models.loading import BaseModel, load_base
from gistbench.training import room
from gistbench.training.examples import build_example
from gistbench.training.room import TRIED, check_room
from tests.fixtures.tiny_base import tiny_config


@pytest.fixture
def base(tiny_base: Path) -> BaseModel:
    return load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu")


@pytest.fixture
def too_long(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Numbers of the samples that are too long for their context; a test adds to them."""
    chosen: set[int] = set()

    def build(*args: Any, index: int, **named: Any) -> Any:
        if index in chosen:
            raise DoesNotFitError("too small; ask for at least 150")
        return build_example(*args, index=index, **named)

    monkeypatch.setattr(room, "build_example", build)
    return chosen


@pytest.mark.parametrize("those", [range(4), range(TRIED - 4, TRIED), range(0, TRIED, 4)])
def test_a_quarter_of_fresh_samples_may_be_too_long(
    tiny_base: Path, base: BaseModel, too_long: set[int], those: range
) -> None:
    config = tiny_config(tiny_base)
    supervised = check_room(config, base)
    assert len(those) == 4 == TRIED // 4
    too_long.update(those)
    assert check_room(config, base) == supervised


@pytest.mark.parametrize("those", [range(5), range(TRIED - 5, TRIED), range(0, TRIED, 3)])
def test_more_than_a_quarter_may_not(
    tiny_base: Path, base: BaseModel, too_long: set[int], those: range
) -> None:
    too_long.update(those)
    with pytest.raises(UsageError, match=r"^data\.context_tokens or data\.curriculum: .* 150$"):
        check_room(tiny_config(tiny_base), base)


def test_of_a_fixed_set_none_may_since_none_is_drawn_again(
    tiny_base: Path, base: BaseModel, too_long: set[int]
) -> None:
    config = tiny_config(tiny_base, data={"num_samples": 100})
    assert check_room(config, base)
    too_long.add(TRIED - 1)
    with pytest.raises(UsageError, match="at least 150"):
        check_room(config, base)


def test_any_other_refusal_is_one_at_once(
    tiny_base: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise UsageError("not a fast tokenizer")

    monkeypatch.setattr(room, "build_example", refuse)
    with pytest.raises(UsageError, match=r"^not a fast tokenizer$"):
        check_room(tiny_config(tiny_base), base)
