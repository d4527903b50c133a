"""Claims about the arms from kvpress: which slots they keep, and that nothing else is different.

Most need kvpress, so they run inside its environment: ``make test-kvpress``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, DynamicCache

from gistbench.arms.base import Arm, Prompt, Reader
from gistbench.arms.catalog import find_arm
from gistbench.arms.kv import compression_ratio
from gistbench.arms.presses import PRESSABLE_MODEL_TYPES, PRESSES
from gistbench.core.cache import ContextCache
from gistbench.core.footprint import Architecture
from gistbench.errors import PrerequisiteError, UsageError
from gistbench.evaluation.engine import Engine
from gistbench.models.cache import open_cache
from gistbench.models.decode import continue_layout, read_contexts
from gistbench.models.prompts import PromptTokens
from tests.fixtures.engines import make_engine, make_prompt
from tests.fixtures.tiny_base import CONTEXT_TOKENS

BUDGET = 100
"""More than the 64 that SnapKV always keeps, less than the 160 of the contexts."""


@pytest.fixture(scope="module")
def kvpress() -> Any:
    return pytest.importorskip("kvpress", reason="needs kvpress; run `make test-kvpress`")


@pytest.fixture(scope="module")
def engine(tiny_base: Path) -> Engine:
    return make_engine("full", tiny_base)


@pytest.fixture(scope="module")
def prompts(engine: Engine) -> list[Prompt]:
    return [make_prompt(engine.base.tokenizer, index) for index in range(3)]


@pytest.fixture(params=list(PRESSES))
def arm(request: pytest.FixtureRequest) -> Arm:
    return find_arm(f"{request.param}-{BUDGET}")


def with_context(prompt: Prompt, context: list[int]) -> Prompt:
    return replace(prompt, tokens=PromptTokens(context, prompt.tokens.question))


def full(engine: Engine, *prompts: Prompt) -> ContextCache:
    contexts = [prompt.tokens.context for prompt in prompts]
    return read_contexts(engine.reader.model, contexts, keep_all=True)


def assert_close(one: ContextCache, other: ContextCache, tolerance: float = 1e-5) -> None:
    assert one.layout == other.layout
    pairs = zip((*one.keys, *one.values), (*other.keys, *other.values), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


@torch.inference_mode()
def question_logits(engine: Engine, cache: ContextCache, question: list[int]) -> torch.Tensor:
    """``(question, vocabulary)`` from a cache of one context."""
    layout = continue_layout(cache, (0,))
    return (
        engine.reader.model(
            input_ids=torch.tensor([question]),
            position_ids=layout.suffix_positions(0, len(question)),
            past_key_values=open_cache(cache, room=len(question)),
            use_cache=True,
            layout=layout,
        )
        .logits[0]
        .clone()
    )


def kept_positions(cache: ContextCache, whole: ContextCache) -> list[list[set[int]]]:
    """For each layer and key head, which slots of the whole context a cache of one row holds."""
    found = []
    for layer, (keys, all_keys) in enumerate(zip(cache.keys, whole.keys, strict=True)):
        same = (keys[0].unsqueeze(2) == all_keys[0].unsqueeze(1)).all(dim=3)
        assert (same.sum(dim=2) == 1).all(), "each kept key is one of the context's"
        places = same.int().argmax(dim=2)
        for head, row in enumerate(places.tolist()):
            mine, theirs = cache.values[layer][0, head], whole.values[layer][0, head, row]
            assert torch.equal(mine, theirs), "values stay with their keys"
        found.append([set(row) for row in places.tolist()])
    return found


# ------------------------------------------------------------------------------ what is kept


def test_every_layer_holds_exactly_the_budget(
    kvpress: Any, engine: Engine, prompts: list[Prompt], arm: Arm
) -> None:
    config = engine.base.model.config
    predicted = Architecture.of(config.to_dict()).key_value_bytes_per_token("float32")
    for budget in (64, 65, 99, 100, 159, 160):
        resized = replace(arm, budget_tokens=budget)  # type: ignore[call-arg]
        cache = resized.read(engine.reader, prompts[:2])
        assert len(cache.keys) == config.num_hidden_layers
        assert {key.shape[:3] for key in (*cache.keys, *cache.values)} == {(2, 2, budget)}
        assert cache.num_bytes == 2 * budget * predicted
        assert resized.name == resized.about.name
    response = replace(engine, arm=arm).respond(prompts[:1], until=(), max_new_tokens=2)[0]
    assert (response.cache_tokens, response.cache_bytes) == (BUDGET, BUDGET * predicted)
    assert response.context_tokens == CONTEXT_TOKENS


def test_with_a_budget_of_the_whole_context_answers_are_those_of_full(
    kvpress: Any, engine: Engine, prompts: list[Prompt], arm: Arm
) -> None:
    everything = replace(arm, budget_tokens=CONTEXT_TOKENS)  # type: ignore[call-arg]
    cache = everything.read(engine.reader, prompts[:1])
    assert_close(cache, full(engine, prompts[0]))
    question = prompts[0].tokens.question
    torch.testing.assert_close(
        question_logits(engine, cache, question),
        question_logits(engine, full(engine, prompts[0]), question),
    )


def test_knorm_keeps_the_smallest_keys(kvpress: Any, engine: Engine, prompts: list[Prompt]) -> None:
    whole = full(engine, prompts[0])
    kept = kept_positions(find_arm("kv-knorm-10").read(engine.reader, prompts[:1]), whole)
    for keys, heads in zip(whole.keys, kept, strict=True):
        sizes = keys[0].pow(2).sum(dim=2)
        assert heads == [set(row.argsort()[:10].tolist()) for row in sizes]
    assert len({frozenset(head) for layer in kept for head in layer}) > 1, "heads choose their own"


@pytest.mark.parametrize("budget", [4, 5, 40])
def test_streaming_llm_keeps_the_first_four_and_the_last(
    kvpress: Any, engine: Engine, prompts: list[Prompt], budget: int
) -> None:
    read = find_arm(f"kv-streaming-llm-{budget}").read(engine.reader, prompts[:1])
    last = range(CONTEXT_TOKENS - (budget - 4), CONTEXT_TOKENS)
    expected = {0, 1, 2, 3, *last}
    for heads in kept_positions(read, full(engine, prompts[0])):
        assert heads == [expected, expected]


def test_snapkv_keeps_what_its_last_64_attended_to_most(
    kvpress: Any, engine: Engine, prompts: list[Prompt], tiny_base: Path
) -> None:
    """Held against the attention weights that transformers itself reports."""
    read = find_arm(f"kv-snapkv-{BUDGET}").read(engine.reader, prompts[:1])
    plain = AutoModelForCausalLM.from_pretrained(tiny_base, attn_implementation="eager").eval()
    with torch.inference_mode():
        ids = torch.tensor([prompts[0].tokens.context])
        weights = plain(input_ids=ids, output_attentions=True).attentions
    kept = kept_positions(read, full(engine, prompts[0]))
    window = set(range(CONTEXT_TOKENS - 64, CONTEXT_TOKENS))
    for attention, heads in zip(weights, kept, strict=True):
        score = F.avg_pool1d(attention[0, :, -64:, :-64].mean(dim=1), 5, padding=2, stride=1)
        score = score.view(2, -1, CONTEXT_TOKENS - 64).mean(dim=1)
        chosen = score.topk(BUDGET - 64).indices.tolist()
        assert heads == [window | set(row) for row in chosen]


def test_with_as_many_slots_as_are_always_kept_nothing_is_chosen(
    kvpress: Any, engine: Engine, prompts: list[Prompt]
) -> None:
    """What the smallest budgets are: they are kvpress's defaults, which may change."""
    assert kvpress.SnapKVPress().window_size == PRESSES["kv-snapkv"].always_kept
    for press in ("kv-streaming-llm", "kv-expected-attention"):
        assert getattr(kvpress, PRESSES[press].kind)().n_sink == PRESSES[press].always_kept
    whole = full(engine, prompts[0])
    for name, expected in (
        ("kv-snapkv-64", set(range(CONTEXT_TOKENS - 64, CONTEXT_TOKENS))),
        ("kv-expected-attention-4", {0, 1, 2, 3}),
    ):
        read = find_arm(name).read(engine.reader, prompts[:1])
        assert kept_positions(read, whole) == [[expected] * 2] * 2


@pytest.mark.parametrize("model_type", PRESSABLE_MODEL_TYPES)
def test_the_cache_is_the_one_that_kvpress_leaves_in_plain_transformers(
    kvpress: Any, make_tiny: Callable[..., Any], arm: Arm, model_type: str
) -> None:
    model = make_tiny(model_type)
    ids = torch.randint(61, (1, 150), generator=torch.Generator().manual_seed(1))
    prompt = Prompt("", "", "", PromptTokens(ids[0].tolist(), [1]))
    mine = arm.read(Reader(model, ()), [prompt])
    model.set_attn_implementation("sdpa")
    theirs = DynamicCache()
    press = getattr(kvpress, PRESSES[arm.press].kind)  # type: ignore[attr-defined]
    with torch.inference_mode(), press(compression_ratio=1 - (BUDGET + 0.5) / 150)(model):
        model(input_ids=ids, past_key_values=theirs)
    for layer, (keys, values) in enumerate(zip(mine.keys, mine.values, strict=True)):
        torch.testing.assert_close(keys, theirs.layers[layer].keys, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(values, theirs.layers[layer].values, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------- what is answered


def test_answers_are_those_of_plain_transformers_that_cannot_see_what_was_dropped(
    kvpress: Any, engine: Engine, prompts: list[Prompt], tiny_base: Path
) -> None:
    """StreamingLLM keeps the same slots everywhere, so that one mask says what is gone."""
    context, question = prompts[0].tokens.context, prompts[0].tokens.question
    cache = find_arm("kv-streaming-llm-40").read(engine.reader, prompts[:1])
    length = len(context) + len(question)
    seen = torch.ones((length, length), dtype=torch.bool).tril()
    seen[len(context) :, 4 : len(context) - 36] = False
    plain = AutoModelForCausalLM.from_pretrained(tiny_base, attn_implementation="sdpa").eval()
    with torch.inference_mode():
        ids = torch.tensor([context + question])
        expected = plain(input_ids=ids, attention_mask=seen[None, None]).logits[0, len(context) :]
        unmasked = plain(input_ids=ids).logits[0, len(context) :]
    mine = question_logits(engine, cache, question)
    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)
    assert (mine - unmasked).abs().max() > 0.1, "the mask does nothing"


def test_the_question_goes_on_where_the_context_ended(
    kvpress: Any, engine: Engine, prompts: list[Prompt], arm: Arm
) -> None:
    cache = arm.read(engine.reader, prompts[:1])
    assert cache.layout.suffix_positions(0, 2).tolist() == [[CONTEXT_TOKENS, CONTEXT_TOKENS + 1]]


def test_the_question_does_not_influence_what_is_kept(
    kvpress: Any, engine: Engine, prompts: list[Prompt], arm: Arm
) -> None:
    context = prompts[0].tokens.context
    asked = [
        replace(prompts[0], tokens=PromptTokens(context, question))
        for question in (prompts[0].tokens.question, [5], context[20:90])
    ]
    first, *others = (arm.read(engine.reader, [prompt]) for prompt in asked)
    for other in others:
        assert_close(first, other, tolerance=0)


def test_no_row_depends_on_the_batch_it_is_read_in(
    kvpress: Any, engine: Engine, prompts: list[Prompt], arm: Arm
) -> None:
    shorter = with_context(prompts[1], prompts[1].tokens.context[:120])
    for batch in (prompts, [prompts[0], shorter, prompts[2]]):
        together = arm.read(engine.reader, batch)
        for row, prompt in enumerate(batch):
            assert_close(together.row(row), arm.read(engine.reader, [prompt]))


def test_a_press_leaves_nothing_on_the_model(
    kvpress: Any, engine: Engine, prompts: list[Prompt], arm: Arm
) -> None:
    before = full(engine, prompts[0])
    arm.read(engine.reader, prompts)
    assert_close(full(engine, prompts[0]), before, tolerance=0)
    assert not any(module._forward_hooks for module in engine.base.model.modules())


def test_warming_up_runs_the_press(
    kvpress: Any, engine: Engine, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = []
    original = kvpress.SnapKVPress.score

    def score(*arguments: Any) -> Any:
        scored.append(arguments[2].shape[1])
        return original(*arguments)

    monkeypatch.setattr(kvpress.SnapKVPress, "score", score)
    replace(engine, arm=find_arm("kv-snapkv-64")).warm_up(prompts[0])
    assert scored == [65, 65]


# -------------------------------------------------------------------------- what is refused


def test_the_ratio_leaves_exactly_the_budget_at_any_length() -> None:
    lengths = [*range(1, 200), 4925, 8191, 8192, 131072]
    for length in lengths:
        for kept in {*range(1, min(length, 70) + 1), length // 3 or 1, length - 1 or 1, length}:
            ratio = compression_ratio(kept, length)
            assert 0 <= ratio < 1
            assert int(length * (1 - ratio)) == kept


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kv-snapkv-63", "cannot keep 63 of 160 context tokens: kv-snapkv takes a budget from 64"),
        ("kv-streaming-llm-3", "takes a budget from 4 to 160 here"),
        ("kv-expected-attention-3", "takes a budget from 4 to 160 here"),
        ("kv-knorm-161", "cannot keep 161 of 160 context tokens"),
    ],
)
def test_a_budget_that_the_press_or_the_context_cannot_have_is_refused(
    engine: Engine, prompts: list[Prompt], name: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        find_arm(name).read(engine.reader, prompts[:1])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "gpt_neox"}, "reads llama, mistral, qwen2 and qwen3 models"),
        ({"model_type": "gemma3_text", "sliding_window": 512}, "and this one is gemma3_text"),
        ({"model_type": "mistral", "sliding_window": 4096}, "sees 4,096 tokens back"),
    ],
)
def test_a_model_that_a_press_would_get_wrong_is_refused(
    prompts: list[Prompt], config: dict[str, Any], said: str
) -> None:
    model = torch.nn.Module()
    model.config = SimpleNamespace(**config)
    with pytest.raises(UsageError, match=said):
        find_arm("kv-knorm-10").read(Reader(model, ()), prompts[:1])


def test_without_kvpress_the_next_step_is_named(
    engine: Engine, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kvpress", None)
    with pytest.raises(PrerequisiteError, match=r"use `gistbench run`.*`make kvpress`"):
        find_arm("kv-knorm-10").read(engine.reader, prompts[:1])
