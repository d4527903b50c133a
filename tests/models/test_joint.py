"""Projections of one input, multiplied at once: the same numbers from fewer products."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.fx.experimental.proxy_tensor import make_fx
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from gistbench.core.layout import GistLayout, pad_left
from gistbench.models import joint
from gistbench.models.decode import answer, continue_layout, read_contexts
from gistbench.models.joint import JointProjections, join_projections
from gistbench.models.static import DecodingStep, StaticDecoding, decoding_loop

IDS = torch.arange(3, 27).view(2, 12)
NEW_TOKENS = 11


class Products(TorchDispatchMode):
    """Counts products with a matrix of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return func(*args, **(kwargs or {}))


class Pair(torch.nn.Module):
    """Gate and up projection of one input."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj = torch.nn.Linear(6, 4)
        self.up_proj = torch.nn.Linear(6, 3)


def logits(model: Any) -> torch.Tensor:
    """Of `IDS`, read as a context."""
    layout = GistLayout(12, 12, (0, 0), (0, 0), stage="prefix")
    positions = layout.prefix_positions(torch.device("cpu"))
    found: torch.Tensor = model(input_ids=IDS, position_ids=positions, layout=layout).logits
    return found


def storage_bytes(model: torch.nn.Module) -> int:
    storages = [parameter.untyped_storage() for parameter in model.parameters()]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def num_groups(model: Any) -> int:
    return 0 if model.config.model_type == "gpt_neox" else 2 * model.config.num_hidden_layers


# ------------------------------------------------------------------------------- what is computed


@torch.no_grad()
def test_joint_products_give_the_same_logits_from_fewer_products(tiny: Any) -> None:
    """Three products less a layer: two of queries, keys and values, one of gate and up."""
    with Products() as apart:
        expected = logits(tiny)
    projections = JointProjections(tiny)
    assert len(projections) == num_groups(tiny)
    with Products() as laid:
        assert torch.equal(logits(tiny), expected)
    assert laid.count == apart.count, "joint outside of the block"
    with projections.products(), Products() as together:
        found = logits(tiny)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert apart.count - together.count == 3 * num_groups(tiny) // 2


def test_parameters_keep_their_names_values_and_bytes(tiny: Any) -> None:
    parameters = dict(tiny.named_parameters())
    values = {name: value.clone() for name, value in tiny.state_dict().items()}
    before = storage_bytes(tiny)
    assert join_projections(tiny) == num_groups(tiny)
    after = tiny.state_dict()
    assert list(after) == list(values)
    assert all(torch.equal(after[name], value) for name, value in values.items())
    now = dict(tiny.named_parameters())
    assert now.keys() == parameters.keys()
    assert all(now[name] is parameter for name, parameter in parameters.items())
    assert storage_bytes(tiny) == before


def test_biases_are_joint_too(make_tiny: Any) -> None:
    layer = make_tiny("qwen2").model.layers[0].self_attn
    hidden = torch.randn(2, 3, 32)
    named = [layer.q_proj, layer.k_proj, layer.v_proj]
    expected = [linear(hidden) for linear in named]
    assert all(linear.bias.abs().sum() > 0 for linear in named)
    with torch.no_grad(), JointProjections(layer).products(), Products() as products:
        found = [linear(hidden) for linear in named]
    torch.testing.assert_close(found, expected)
    assert products.count == 1
    starts = [linear.bias.data_ptr() for linear in named]
    assert [start - starts[0] for start in starts] == [0, 32 * 4, 48 * 4]


@torch.inference_mode()
def test_a_sibling_given_another_tensor_takes_its_own_product() -> None:
    pair, hidden, other = Pair(), torch.randn(2, 6), torch.randn(2, 6)
    expected = pair.up_proj(other)
    same = pair.up_proj(hidden)
    with JointProjections(pair).products():
        pair.gate_proj(hidden)
        torch.testing.assert_close(pair.up_proj(other), expected)
        torch.testing.assert_close(pair.up_proj(hidden.clone()), same)
        torch.testing.assert_close(pair.up_proj(hidden), same)
        # Without the first, or asked again, there is no part to be had.
        torch.testing.assert_close(pair.up_proj(hidden), same)
        # An input that the first never had, behind one that it had.
        pair.gate_proj(other)
        torch.testing.assert_close(pair.up_proj(hidden), same)


@torch.inference_mode()
def test_no_activation_outlives_the_last_part_that_was_taken(make_tiny: Any) -> None:
    layer = make_tiny("llama").model.layers[0].self_attn
    projections = JointProjections(layer)
    with projections.products():
        hidden = torch.randn(2, 3, 32)
        activation = weakref.ref(hidden)
        memory = StorageWeakRef(layer.q_proj(hidden).untyped_storage())
        layer.k_proj(hidden)
        assert not memory.expired(), "this proves nothing if the part was not kept till here"
        layer.v_proj(hidden)
        del hidden
        assert activation() is None
        assert memory.expired()
        # A layer that stopped halfway.
        hidden = torch.randn(2, 3, 32)
        activation = weakref.ref(hidden)
        layer.q_proj(hidden)
        del hidden
    assert activation() is None


def test_where_gradients_are_recorded_nothing_is_joint() -> None:
    pair, hidden = Pair(), torch.randn(2, 6)
    with JointProjections(pair).products(), Products() as products:
        (pair.gate_proj(hidden).sum() + pair.up_proj(hidden).sum()).backward()
    assert products.count == 2 + 2  # forward, and the weights' gradients
    for linear in (pair.gate_proj, pair.up_proj):
        assert torch.allclose(linear.weight.grad, hidden.sum(0).expand_as(linear.weight))


# ------------------------------------------------------------------------------ what is laid where


def test_one_group_is_freed_before_the_next_is_laid(
    make_tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sound = make_tiny("llama"), torch.cat
    earlier: list[StorageWeakRef] = []

    def watched(tensors: Any, *options: Any) -> torch.Tensor:
        assert all(storage.expired() for storage in earlier)
        earlier.extend(StorageWeakRef(tensor.untyped_storage()) for tensor in tensors)
        return sound(tensors, *options)

    monkeypatch.setattr(joint.torch, "cat", watched)
    join_projections(model)
    assert len(earlier) == 2 * 5
    assert all(storage.expired() for storage in earlier)


def test_what_lies_together_is_not_laid_again(make_tiny: Any) -> None:
    model = make_tiny("qwen2")
    join_projections(model)
    places = [parameter.data_ptr() for parameter in model.parameters()]
    assert join_projections(model) == 4
    assert [parameter.data_ptr() for parameter in model.parameters()] == places


@torch.no_grad()
def test_weights_that_are_moved_are_multiplied_apart_until_laid_again(make_tiny: Any) -> None:
    model = make_tiny("llama")
    projections = JointProjections(model)
    model.double()
    assert len(projections) == 0
    layer = model.model.layers[0].mlp
    with torch.no_grad():
        layer.up_proj.weight.mul_(2)
    expected = logits(model)
    with projections.products():
        assert torch.equal(logits(model), expected)
    assert join_projections(model) == len(projections) == 4
    with projections.products(), Products() as products:
        torch.testing.assert_close(logits(model), expected)
    assert products.count == 2 * 4 + 1


@torch.no_grad()
def test_weights_changed_in_place_are_those_that_are_multiplied() -> None:
    pair, hidden = Pair(), torch.randn(2, 6)
    projections = JointProjections(pair)
    pair.up_proj.weight.mul_(3)
    pair.gate_proj.bias.add_(1)
    expected = (pair.gate_proj(hidden), pair.up_proj(hidden))
    with projections.products():
        found = (pair.gate_proj(hidden), pair.up_proj(hidden))
    torch.testing.assert_close(found, expected)


def test_a_joined_model_trains_though_it_was_joined_in_inference_mode() -> None:
    pair, hidden = Pair(), torch.randn(2, 6)
    with torch.inference_mode():
        projections = JointProjections(pair)
    optimizer = torch.optim.SGD(pair.parameters(), lr=0.1)
    before = pair.up_proj.weight.detach().clone()
    (pair.gate_proj(hidden).sum() + pair.up_proj(hidden).sum()).backward()
    optimizer.step()
    assert not torch.equal(pair.up_proj.weight, before)
    assert len(projections) == 1


def test_a_joined_model_can_be_saved_and_loaded(make_tiny: Any, tmp_path: Any) -> None:
    model = make_tiny("qwen2")
    join_projections(model)
    model.save_pretrained(tmp_path)
    found = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


def test_projections_hold_no_weights_once_nobody_refers_to_them() -> None:
    """At 8B a circle of references would keep 16 GB until the collector comes."""
    pair = Pair()
    projections = JointProjections(pair)
    gc.disable()
    try:
        with torch.inference_mode(), projections.products():
            pair.gate_proj(torch.randn(2, 6))
        linear = weakref.ref(pair.up_proj)
        del pair, projections
        assert linear() is None
    finally:
        gc.enable()


# ------------------------------------------------------------------------------ what is left alone


class Linear4bit(torch.nn.Linear):
    """Stands for any layer that only looks like a linear one."""


def quantised(pair: Pair) -> None:
    pair.up_proj = Linear4bit(6, 3)


def other_dtype(pair: Pair) -> None:
    pair.up_proj.double()


def without_bias(pair: Pair) -> None:
    pair.up_proj.bias = None


def without_values(pair: Pair) -> None:
    pair.to("meta")


def hooked(pair: Pair) -> None:
    pair.gate_proj.forward = lambda hidden: hidden  # type: ignore[method-assign]


@pytest.mark.parametrize("change", [quantised, other_dtype, without_bias, without_values, hooked])
def test_siblings_that_differ_are_left_alone(change: Callable[[Pair], None]) -> None:
    pair = Pair()
    assert join_projections(pair) == 1
    pair = Pair()
    change(pair)
    weights = [parameter.data_ptr() for parameter in pair.parameters()]
    assert join_projections(pair) == 0
    assert [parameter.data_ptr() for parameter in pair.parameters()] == weights


@torch.no_grad()
def test_layers_with_a_lora_are_left_alone_until_it_is_merged(make_tiny: Any) -> None:
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    wrapped = get_peft_model(make_tiny("llama"), lora).eval()
    expected = logits(wrapped)
    projections = JointProjections(wrapped)
    assert len(projections) == 2, "gate and up of two layers"
    with projections.products():
        torch.testing.assert_close(logits(wrapped), expected)
    merged: Any = wrapped.merge_and_unload()
    projections = JointProjections(merged)
    assert len(projections) == 4
    with projections.products():
        torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-4)


def test_quantised_layers_are_left_alone() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    pair = Pair()
    pair.gate_proj = bitsandbytes.nn.Linear4bit(6, 4)
    pair.up_proj = bitsandbytes.nn.Linear4bit(6, 3)
    assert join_projections(pair) == 0


# ------------------------------------------------------------------------------------ in the loops


def ask(loop: Any, model: Any, batch: Any) -> list[list[int]]:
    context = read_contexts(model, batch.contexts, gist_ids=batch.gist_ids)
    tokens: list[list[int]] = loop(
        model,
        context,
        batch.questions,
        max_new_tokens=NEW_TOKENS,
        is_done=lambda _: False,
        num_text_tokens=58,
    ).tokens
    return tokens


@contextmanager
def parts_mixed_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    sound = joint._Group.part

    def broken(self: Any, number: int, hidden: torch.Tensor) -> torch.Tensor:
        return sound(self, number, hidden).flip(-1)

    with monkeypatch.context() as patch:
        patch.setattr(joint._Group, "part", broken)
        yield


def test_steps_are_joint_and_contexts_and_questions_are_not(
    make_tiny: Any, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The eager loop stays the reference, whoever joined the weights that it uses."""
    model, batch = make_tiny("llama"), make_batch()
    expected = ask(answer, model, batch)
    assert ask(StaticDecoding(), model, batch) == expected
    with parts_mixed_up(monkeypatch):
        assert ask(answer, model, batch) == expected
        found = ask(StaticDecoding(), model, batch)
        assert found != expected
        assert [row[0] for row in found] == [row[0] for row in expected]


def test_a_compiled_step_has_the_joint_products(
    make_tiny: Any, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, graphs = torch.compile, []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    def compiling(step: Any, **options: Any) -> Any:
        return sound(step, **{**options, "backend": backend, "fullgraph": True})

    monkeypatch.setattr(torch, "compile", compiling)
    torch.compiler.reset()
    model, batch = make_tiny("qwen2"), make_batch()
    assert ask(decoding_loop("compiled"), model, batch) == ask(answer, model, batch)
    (graph,) = graphs
    linear = [node for node in graph.graph.nodes if node.target is torch._C._nn.linear]
    assert len(linear) == 2 * 4 + 1


@torch.inference_mode()
def test_a_joint_step_recorded_once_can_be_replayed(make_tiny: Any, make_batch: Any) -> None:
    """As a CUDA graph does it, which has the tensor operations alone."""
    model, batch = make_tiny("qwen3"), make_batch()
    context = read_contexts(model, batch.contexts, gist_ids=batch.gist_ids)
    expected = ask(answer, model, batch)
    ids, padding = pad_left(batch.questions, 0)
    layout = continue_layout(context, padding)
    first = layout.num_visible + ids.shape[1]
    step = DecodingStep(model, (4, 64, 58), torch.device("cpu"))
    step.ask(context, ids, layout)

    def run(_: torch.Tensor) -> torch.Tensor:
        step._run()
        return step.tokens.clone()

    recorded = make_fx(run)(ids)
    for _ in range(NEW_TOKENS - 2):
        recorded(ids)
    assert step.tokens[:, first : first + NEW_TOKENS].tolist() == expected
