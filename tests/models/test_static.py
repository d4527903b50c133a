"""The static decoding loop generates the eager loop's tokens, and a step can be replayed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from gistbench.core.cache import ContextCache, stack
from gistbench.core.layout import GistLayout, pad_left
from gistbench.core.mask import suffix_mask
from gistbench.core.step import StepView, step_attention
from gistbench.models.decode import Answers, answer, continue_layout, no_context, read_contexts
from gistbench.models.reading import read_in_segments
from gistbench.models.static import CHECK_STEPS, DecodingStep, StaticDecoding, decoding_loop

NEW_TOKENS = 2 * CHECK_STEPS + 3


def never(_: list[int]) -> bool:
    return False


def ask(loop: Any, model: Any, context: ContextCache, questions: Any, **options: Any) -> Answers:
    settings = {
        "max_new_tokens": NEW_TOKENS,
        "is_done": never,
        "num_text_tokens": 58,
    }
    return loop(model, context, questions, **{**settings, **options})


def recording(step: DecodingStep, ids: torch.Tensor) -> Callable[[torch.Tensor], Any]:
    """The tensor operations of one step, run once and to be run again."""

    def run(_: torch.Tensor) -> torch.Tensor:
        step._step()
        return step.tokens.clone()

    replay: Callable[[torch.Tensor], Any] = make_fx(run)(ids)
    return replay


def contexts_of_every_kind(model: Any, batch: Any) -> dict[str, ContextCache]:
    """Gists, gists of parts, gists segment by segment, all slots with padding among them, none."""
    long = [[*row, *range(6)] for row in batch.contexts]
    memories = [
        read_in_segments(model, row, gist_ids=batch.gist_ids, segment_tokens=9) for row in long
    ]
    return {
        "memory": stack(memories),
        "gists": read_contexts(model, batch.contexts, gist_ids=batch.gist_ids),
        "segments": read_contexts(model, long, gist_ids=batch.gist_ids, segmented=True),
        "all": read_contexts(model, batch.contexts, keep_all=True, gist_ids=(58,)),
        "none": no_context(len(batch.questions)),
    }


def test_every_kind_of_context_gets_the_eager_loops_tokens(tiny: Any, make_batch: Any) -> None:
    """Contexts and questions are padded, and windows end within prefix, question and answer."""
    batch, loop = make_batch(), StaticDecoding()
    for kind, context in contexts_of_every_kind(tiny, batch).items():
        expected = ask(answer, tiny, context, batch.questions).tokens
        assert ask(loop, tiny, context, batch.questions).tokens == expected, kind
        # The same buffers again, for other questions.
        other = make_batch(seed=7).questions
        expected = ask(answer, tiny, context, other).tokens
        assert ask(loop, tiny, context, other).tokens == expected, kind


def test_rows_alone_get_the_tokens_of_their_batch(tiny: Any, make_batch: Any) -> None:
    batch, loop = make_batch(), StaticDecoding()
    context = read_contexts(tiny, batch.contexts, gist_ids=batch.gist_ids)
    together = ask(loop, tiny, context, batch.questions).tokens
    for row in range(4):
        alone = ask(loop, tiny, context.row(row), [batch.questions[row]]).tokens
        assert alone == [together[row]]


@pytest.mark.parametrize(
    "architecture",
    ["gemma3-window-6", "gpt-neox", "llama", "mistral-window-7", "qwen2-window-9", "qwen3"],
)
@torch.inference_mode()
def test_a_step_recorded_once_can_be_replayed(
    architecture: str, make_tiny: Any, make_batch: Any
) -> None:
    """As a CUDA graph does it: the tensor operations of one step alone, with nothing of Python."""
    model, batch = make_tiny(architecture), make_batch()
    context = read_contexts(model, batch.contexts, keep_all=True)
    expected = ask(answer, model, context, batch.questions).tokens
    ids, padding = pad_left(batch.questions, 0)
    layout = continue_layout(context, padding)
    first = layout.num_visible + ids.shape[1]
    step = DecodingStep(model, (4, 64, 58), torch.device("cpu"))
    step.ask(context, ids, layout)
    recorded = recording(step, ids)
    # Recording ran the step once already.
    for _ in range(NEW_TOKENS - 2):
        recorded(ids)
    assert step.tokens[:, first : first + NEW_TOKENS].tolist() == expected


@pytest.mark.parametrize(
    "architecture",
    ["gemma3-window-6", "gpt-neox", "llama", "mistral-window-7", "qwen2-window-9", "qwen3"],
)
def test_a_compiled_step_is_one_graph_and_generates_the_same_tokens(
    architecture: str, make_tiny: Any, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced as for any backend; whose kernels are fused is the backend's business."""
    sound, graphs = torch.compile, []

    def backend(graph: Any, inputs: Any) -> Any:
        tensors = [item for item in inputs if isinstance(item, torch.Tensor)]
        assert len(tensors) == len(inputs), "a size that may vary"
        storages = {item.untyped_storage().data_ptr() for item in tensors}
        assert len(storages) == len(tensors), "a buffer and a view of it: each step would copy it"
        graphs.append(graph)
        return graph.forward

    def compile(step: Any, **options: Any) -> Any:
        return sound(step, backend=backend, fullgraph=True, **options)

    monkeypatch.setattr(torch, "compile", compile)
    torch.compiler.reset()
    model, batch = make_tiny(architecture), make_batch()
    context = read_contexts(model, batch.contexts, keep_all=True)
    expected = ask(answer, model, context, batch.questions).tokens
    loop = decoding_loop("compiled")
    for questions in (batch.questions, make_batch(seed=7).questions):
        expected = ask(answer, model, context, questions).tokens
        assert ask(loop, model, context, questions).tokens == expected
    assert len(graphs) == 1, "compiled anew for a step that has the same shape"
    few = read_contexts(model, batch.contexts[:2], keep_all=True)
    expected = ask(answer, model, few, batch.questions[:2]).tokens
    assert ask(loop, model, few, batch.questions[:2]).tokens == expected
    assert len(graphs) == 2


@pytest.mark.parametrize("limit", [1, 2, CHECK_STEPS, CHECK_STEPS + 1, CHECK_STEPS + 2])
def test_no_answer_is_longer_than_its_limit(make_tiny: Any, make_batch: Any, limit: int) -> None:
    model, batch = make_tiny("llama"), make_batch()
    context = read_contexts(model, batch.contexts, gist_ids=batch.gist_ids)
    expected = ask(answer, model, context, batch.questions, max_new_tokens=limit)
    got = ask(StaticDecoding(), model, context, batch.questions, max_new_tokens=limit)
    assert got.tokens == expected.tokens
    assert got.decode_steps == limit - 1


@pytest.mark.parametrize("longest", [1, 3, CHECK_STEPS + 2])
def test_rows_stop_on_their_own_and_nothing_behind_their_end_is_kept(
    make_tiny: Any, make_batch: Any, longest: int
) -> None:
    model, batch = make_tiny("llama"), make_batch()
    context = read_contexts(model, batch.contexts, gist_ids=batch.gist_ids)
    full = ask(answer, model, context, batch.questions).tokens
    lengths = (1, 2, longest, longest)
    ends = {tuple(tokens[:end]) for tokens, end in zip(full, lengths, strict=True)}

    def is_done(tokens: list[int]) -> bool:
        return tuple(tokens) in ends

    expected = ask(answer, model, context, batch.questions, is_done=is_done)
    got = ask(StaticDecoding(), model, context, batch.questions, is_done=is_done)
    assert got.tokens == expected.tokens
    assert expected.decode_steps <= got.decode_steps < expected.decode_steps + CHECK_STEPS


def test_buffers_are_kept_for_batches_of_one_shape_and_released_when_asked(
    make_tiny: Any, make_batch: Any
) -> None:
    model, batch, loop = make_tiny("llama"), make_batch(), StaticDecoding()
    context = read_contexts(model, batch.contexts, gist_ids=batch.gist_ids)
    ask(loop, model, context, batch.questions)
    step = loop._step
    assert step is not None
    shorter = [question[:1] for question in batch.questions]
    expected = ask(answer, model, context, shorter).tokens
    assert ask(loop, model, context, shorter).tokens == expected
    assert loop._step is step
    ask(loop, model, context.row(0), batch.questions[:1])
    assert loop._step is not step
    again = loop._step
    assert again is not None
    buffers = [weakref.ref(layer._keys) for layer in again._layers]
    assert all(buffer() is not None for buffer in buffers)
    # The step is still referred to here, as by what compiled it; its buffers are not.
    loop.release()
    assert loop._step is None
    assert all(buffer() is None for buffer in buffers)


def test_what_an_earlier_batch_left_behind_is_never_read(make_tiny: Any, make_batch: Any) -> None:
    """A NaN in a masked slot would still be one after the softmax has given it no weight."""
    model, batch, loop = make_tiny("llama"), make_batch(), StaticDecoding()
    contexts = contexts_of_every_kind(model, batch)
    for kind in ("gists", "none", "all"):
        expected = ask(answer, model, contexts[kind], batch.questions).tokens
        ask(loop, model, contexts[kind], batch.questions)
        with torch.inference_mode():
            for layer in loop._step._layers:
                layer._keys.fill_(torch.nan)
                layer._values.fill_(torch.nan)
        assert ask(loop, model, contexts[kind], batch.questions).tokens == expected


def test_the_context_is_left_as_it_was(make_tiny: Any, make_batch: Any) -> None:
    model, batch = make_tiny("llama"), make_batch()
    context = read_contexts(model, batch.contexts, gist_ids=batch.gist_ids)
    before = [tensor.clone() for tensor in (*context.keys, *context.values)]
    ask(StaticDecoding(), model, context, batch.questions)
    after = (*context.keys, *context.values)
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_preparing_a_step_is_in_neither_time(make_tiny: Any, make_batch: Any) -> None:
    model, batch = make_tiny("llama"), make_batch()
    context = read_contexts(model, batch.contexts, gist_ids=batch.gist_ids)
    ticks = iter([10.0, 12.5, 100.0, 105.0])
    got = ask(StaticDecoding(), model, context, batch.questions, clock=lambda: next(ticks))
    assert (got.first_token_seconds, got.decode_seconds) == (2.5, 5.0)
    assert got.decode_steps == NEW_TOKENS - 1


# -------------------------------------------------------------------------------- what a step reads


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("segmented", [False, True])
def test_a_step_reads_what_the_last_row_of_the_suffix_mask_allows(
    window: int | None, segmented: bool
) -> None:
    layout = GistLayout(9, 3, (0, 2, 5), (4, 0, 2), "suffix", segmented)
    for num_suffix in (5, 6, 9):
        slot = 3 + num_suffix - 1
        view = StepView.of(layout, 16, slot, torch.device("cpu"))
        allowed = view.bias(window, torch.float32)[:, 0, 0] == 0
        mask = suffix_mask(layout, 1, num_suffix, window, torch.device("cpu"))
        assert mask is not None
        assert torch.equal(allowed[:, : slot + 1], mask[:, 0])
        assert not allowed[:, slot + 1 :].any()


def test_a_step_takes_one_token_over_its_own_buffer() -> None:
    view = StepView.of(GistLayout(3, 3, (0,), (0,), "suffix"), 8, 4, torch.device("cpu"))
    query, key = torch.randn(1, 4, 2, 16), torch.randn(1, 2, 8, 16)
    with pytest.raises(ValueError, match="one token for each of 1 rows over 8 slots, got 2"):
        step_attention(query, key, key, view, scaling=1.0)
    with pytest.raises(ValueError, match="got 1 for 1 over 7"):
        step_attention(query[:, :, :1], key[:, :, :7], key[:, :, :7], view, scaling=1.0)


def test_keys_and_values_are_read_as_they_lie() -> None:
    """Not repeated for the heads that share them, nor copied in any other way."""
    view = StepView.of(GistLayout(3, 3, (0,) * 5, (0,) * 5, "suffix"), 8, 4, torch.device("cpu"))
    query, key = torch.randn(5, 6, 1, 16), torch.randn(5, 2, 8, 16)
    value = torch.randn_like(key)
    given = {tensor.untyped_storage().data_ptr() for tensor in (query, key, value)}
    made: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), named: Any = None) -> Any:
            result = op(*args, **(named or {}))
            if result.untyped_storage().data_ptr() not in given:
                made.append(result.numel())
            return result

    with Watch():
        step_attention(query, key, value, view, scaling=1.0)
    assert made
    assert max(made) < key.numel()


# -------------------------------------------------------------------------- the proofs have teeth


def padding_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = StepView.of

    def broken(*args: Any) -> StepView:
        view = sound(*args)
        view.real.fill_(True)
        return view

    monkeypatch.setattr(StepView, "of", broken)


def windows_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = StepView.bias
    monkeypatch.setattr(StepView, "bias", lambda self, _, dtype: sound(self, None, dtype))


def positions_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = StepView.of

    def broken(layout: GistLayout, num_slots: int, slot: int, device: Any) -> StepView:
        view = sound(layout, num_slots, slot, device)
        view.positions[:, slot:] = view.positions[:, slot : slot + 1]
        return view

    monkeypatch.setattr(StepView, "of", broken)


def slots_to_come_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: StepView, _: Any, dtype: torch.dtype) -> torch.Tensor:
        bias = torch.zeros(self.real.shape, dtype=dtype)
        return bias.masked_fill(~self.real, float("-inf"))[:, None, None]

    monkeypatch.setattr(StepView, "bias", broken)


@pytest.mark.parametrize(
    ("architecture", "breakage"),
    [
        ("llama", padding_is_read),
        ("mistral-window-7", windows_are_lost),
        ("gemma3-window-6", windows_are_lost),
        ("llama", positions_stand_still),
        ("llama", slots_to_come_are_read),
    ],
)
def test_a_broken_step_is_noticed(
    architecture: str,
    breakage: Callable[[pytest.MonkeyPatch], None],
    make_tiny: Any,
    make_batch: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batch = make_tiny(architecture), make_batch()
    context = read_contexts(model, batch.contexts, keep_all=True)
    expected = ask(answer, model, context, batch.questions).tokens
    assert ask(StaticDecoding(), model, context, batch.questions).tokens == expected
    breakage(monkeypatch)
    assert ask(StaticDecoding(), model, context, batch.questions).tokens != expected


# ---------------------------------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["static", "compiled"])
def test_captured_steps_generate_the_eager_loops_tokens(
    tiny: Any, make_batch: Any, name: Any
) -> None:
    batch, loop = make_batch(), StaticDecoding(compiled=name == "compiled")
    tiny.to("cuda")
    for kind, context in contexts_of_every_kind(tiny, batch).items():
        for questions in (batch.questions, make_batch(seed=7).questions):
            expected = ask(answer, tiny, context, questions).tokens
            assert ask(loop, tiny, context, questions).tokens == expected, kind
            assert loop._step._graph is not None


@pytest.mark.gpu
@torch.inference_mode()
def test_captured_steps_of_a_quantised_model_with_an_adapter_give_its_eager_logits() -> None:
    """4-bit kernels and an unmerged LoRA inside a graph; float32, so that no tie is near."""
    from gistbench.speed.arm_model import load_arm
    from gistbench.speed.settings import DecodeSpeedConfig

    settings = DecodeSpeedConfig(base="smollm2-135m", weights="random", dtype="float32")
    arm = load_arm(settings, "gist", "nf4", "cuda:0")
    context = read_contexts(arm.model, [list(range(300))] * 3, gist_ids=arm.gist_ids)
    questions, loop = [[5, 6, 7], [8], [9, 10]], StaticDecoding()
    expected = ask(answer, arm.model, context, questions).tokens
    for _ in range(2):
        assert ask(loop, arm.model, context, questions).tokens == expected
