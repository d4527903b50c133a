"""Floors of 4-bit weights count what is unpacked for a pass, and nothing where nothing is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gistbench.config_files import validate
from gistbench.core.footprint import Architecture
from gistbench.core.operations import TrainingStep
from gistbench.models.random_weights import random_base
from gistbench.speed import unpacking
from gistbench.speed.floors import floor_seconds
from gistbench.speed.records import Rates
from gistbench.speed.savings_settings import SavingsConfig
from gistbench.speed.subject import Subject
from gistbench.speed.unpacking import unpacked_parameters, unpacks

FIELDS = {
    "model_type": "llama",
    "vocab_size": 90,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SIZES = Architecture.of(FIELDS)
RATES = Rates(
    matrix_operations_per_second=1e11,
    matrix_size=512,
    matrix_dtype="float32",
    copy_bytes_per_second=1e6,
    copy_bytes=2**26,
)
SLOW_PRODUCTS = RATES.model_copy(update={"matrix_operations_per_second": 1e6})


@pytest.fixture
def base(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps(FIELDS))
    return str(tmp_path)


def seconds(rates: Rates, unpacked: int, rows: int = 2) -> float:
    step = TrainingStep(rows, 0, 10, 1, 1, num_turns=rows)
    return floor_seconds(
        SIZES,
        step,
        rates,
        slots=10,
        dtype="bfloat16",
        quantization="nf4",
        unpacked_parameters=unpacked,
    )


def test_a_floor_of_bytes_grows_by_what_is_written_and_read_again() -> None:
    every = SIZES.linear_parameters
    assert seconds(RATES, every) - seconds(RATES, 0) == pytest.approx(4 * every / 1e6)


def test_a_product_waits_for_its_weights() -> None:
    """Where operations take longest, reading packed weights and writing them comes on top."""
    every = SIZES.linear_parameters
    more = seconds(SLOW_PRODUCTS, every) - seconds(SLOW_PRODUCTS, 0)
    assert more == pytest.approx(2.5 * every / 1e6)


def test_each_layer_counts_by_its_own_shape(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of one shape go one way: one of each is tried, and all of them are counted."""
    model = random_base(base, dtype=torch.float32, device="cpu", quantization="nf4").model
    tried: list[tuple[int, int, int]] = []

    def tall_ones(layer: Any, num_tokens: int) -> bool:
        tried.append((layer.out_features, layer.in_features, num_tokens))
        return bool(layer.out_features > 64)

    monkeypatch.setattr(unpacking, "unpacks", tall_ones)
    monkeypatch.setattr(unpacking, "on_a_gpu", lambda _: True)
    assert unpacked_parameters(model, 7) == 2 * 2 * 128 * 64  # gate and up, in two layers
    assert sorted(tried) == [(32, 64, 7), (64, 64, 7), (64, 128, 7), (128, 64, 7)]
    monkeypatch.setattr(unpacking, "unpacks", lambda *_: True)
    assert unpacked_parameters(model, 7) == SIZES.linear_parameters
    plain = random_base(base, dtype=torch.float32, device="cpu").model
    assert unpacked_parameters(plain, 7) == 0


class Layer(nn.Linear):
    """Holds its whole weight once more while it multiplies, or does not."""

    compute_dtype = torch.float32

    def __init__(self, device: Any, *, unpacks: bool) -> None:
        super().__init__(64, 128, bias=False, device=device)
        self.unpacks = unpacks

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        weight = self.weight.clone() if self.unpacks else self.weight
        return torch.nn.functional.linear(rows, weight)


@pytest.mark.parametrize("really", [True, False])
@pytest.mark.parametrize("num_tokens", [1, 300])
def test_a_weight_held_twice_shows_in_the_peak(
    really: bool, num_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The allocator of a GPU is played here: outputs of many tokens are larger than the weight."""
    layer, peaks = Layer("cpu", unpacks=really), {"now": 0, "most": 0}
    sound = layer.forward

    def forward(rows: torch.Tensor) -> torch.Tensor:
        output = sound(rows)
        held = output.nbytes + (layer.weight.nbytes if really else 0)
        peaks["most"] = peaks["now"] + held
        return output

    monkeypatch.setattr(layer, "forward", forward)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: peaks["now"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: peaks["most"])
    assert unpacks(layer, num_tokens) is really


def test_each_phase_asks_for_the_tokens_of_its_pass(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And on a CPU nothing is counted, which is not the same as that nothing is unpacked."""
    from gistbench.speed import subject as module

    fields = {
        "base": base,
        "weights": "random",
        "dtype": "float32",
        "context_tokens": 40,
        "num_gists": 3,
        "question_tokens": 5,
        "new_tokens": 6,
    }
    settings = validate(SavingsConfig, fields, "test")
    subject = Subject.load(settings, "nf4", RATES, "cpu")
    floors = (
        lambda: subject.compress_floor("gist"),
        lambda: subject.question_floor("full", 4),
        lambda: subject.decode_floor("full", 4),
    )
    assert [floor().unpacked_parameters for floor in floors] == [None, None, None]
    before = [floor().seconds for floor in floors]
    asked: list[int] = []

    def all_of_them(_: Any, num_tokens: int) -> int:
        asked.append(num_tokens)
        return SIZES.linear_parameters

    monkeypatch.setattr(module, "unpacked_parameters", all_of_them)
    after = [floor() for floor in floors]
    assert asked == [43, 20, 4]
    for was, floor, passes in zip(before, after, (1, 1, 6), strict=True):
        assert floor.unpacked_parameters == SIZES.linear_parameters
        assert floor.seconds - was == pytest.approx(passes * 8 * SIZES.linear_parameters / 1e6)  # type: ignore[operator]


@pytest.mark.gpu
def test_one_row_is_multiplied_with_packed_weights_and_a_context_with_unpacked_ones(
    base: str,
) -> None:
    for kept in (True, False):
        assert unpacks(Layer("cuda:0", unpacks=kept), 7) is kept
    fields = json.loads(Path(base, "config.json").read_text())
    wide = {**fields, "hidden_size": 1024, "intermediate_size": 4096}
    Path(base, "config.json").write_text(json.dumps(wide))
    model = random_base(base, dtype=torch.bfloat16, device="cuda:0", quantization="nf4").model
    sizes = Architecture.of(wide)
    assert unpacked_parameters(model, 1) == 0
    assert unpacked_parameters(model, 5000) == sizes.linear_parameters
