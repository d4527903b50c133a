"""One masked pass, two passes with a cache, and an ordinary model with a mask: the same logits."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from gistbench.core import attention as core_attention
from gistbench.core.layout import GistLayout
from gistbench.errors import UsageError
from gistbench.models import attention
from gistbench.models.architectures import SUPPORTED_ARCHITECTURES, require_supported
from gistbench.models.attention import ATTENTION, attention_forward

FLOAT32 = 1e-4
"""Largest difference allowed; the tiny models' logits have a standard deviation of about 6."""

BFLOAT16_TIE = 1.5
"""In bf16 the best token must be the same wherever the float32 logits of the best two are farther
apart than this, a quarter of the logits' spread. Rounding alone moves a logit by up to 1.2."""


def difference(left: torch.Tensor, right: torch.Tensor, real: torch.Tensor) -> float:
    return float((left - right).float().abs()[real].max())


def assert_same_choice(
    left: torch.Tensor, right: torch.Tensor, exact: torch.Tensor, real: torch.Tensor
) -> None:
    best = exact.topk(2, dim=-1).values
    clear = real & (best[..., 0] - best[..., 1] > BFLOAT16_TIE)
    assert clear.sum() >= real.sum() // 3, "too few clear choices to prove anything"
    assert torch.equal(left.argmax(-1)[clear], right.argmax(-1)[clear])


def attention_modules(model: Any) -> list[Any]:
    """The attention of each layer of a bare model."""
    return [
        layer.attention if hasattr(layer, "attention") else layer.self_attn
        for layer in model.base_model.layers
    ]


def context_gradients(
    model: Any, batch: Any, *, detach: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradient of the last answer logits with respect to context, gist and question inputs."""
    ids, layout = batch.joint()
    layout = replace(layout, detach_visible=detach)
    prefix, gists = layout.prefix_length, layout.num_visible
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    output = model(
        inputs_embeds=embeddings,
        position_ids=layout.joint_positions(ids.shape[1] - prefix),
        layout=layout,
        use_cache=False,
    )
    chosen = output.logits[:, -1].max(dim=-1).values.sum()
    (gradient,) = torch.autograd.grad(chosen, embeddings)
    return gradient[:, : prefix - gists], gradient[:, prefix - gists : prefix], gradient[:, prefix:]


# ------------------------------------------------------------------------------------ equal logits


def test_every_supported_architecture_is_in_the_proofs_and_no_other(
    tiny_model_types: set[str],
) -> None:
    assert tiny_model_types == set(SUPPORTED_ARCHITECTURES)


@torch.no_grad()
def test_one_pass_equals_two_passes(tiny: Any, passes: Any, make_batch: Any) -> None:
    batch = make_batch()
    error = difference(passes.one(tiny, batch), passes.two(tiny, batch), batch.real())
    assert error < FLOAT32


@torch.no_grad()
def test_one_pass_equals_two_passes_token_by_token(tiny: Any, passes: Any, make_batch: Any) -> None:
    batch = make_batch()
    one = passes.one(tiny, batch)
    for steps in (range(1, 9), (4,)):
        assert difference(one, passes.two(tiny, batch, steps=steps), batch.real()) < FLOAT32


@torch.no_grad()
def test_bfloat16_chooses_the_same_tokens_in_one_pass_and_two(
    tiny: Any, passes: Any, make_batch: Any
) -> None:
    batch = make_batch((21, 12, 4, 17, 9, 20), (9, 8, 9, 7, 9, 8))
    tiny.to(torch.bfloat16)
    one, two = passes.one(tiny, batch), passes.two(tiny, batch)
    assert torch.equal(one.argmax(-1)[batch.real()], two.argmax(-1)[batch.real()])
    stepped, masked = passes.two(tiny, batch, steps=range(1, 9)), passes.masked(tiny, batch)
    assert one.dtype == torch.bfloat16
    exact = passes.one(tiny.float(), batch)
    for other in (two, stepped, masked, exact):
        assert_same_choice(one, other, exact, batch.real())


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@torch.no_grad()
def test_one_pass_equals_an_ordinary_model_given_the_dense_mask(
    tiny: Any, passes: Any, make_batch: Any, implementation: str
) -> None:
    batch = make_batch()
    masked = passes.masked(tiny, batch, implementation)
    assert difference(passes.one(tiny, batch), masked, batch.real()) < FLOAT32
    assert difference(passes.two(tiny, batch), masked, batch.real()) < FLOAT32


@torch.no_grad()
def test_full_context_equals_an_ordinary_model_on_the_joined_ids(
    tiny: Any, passes: Any, make_batch: Any
) -> None:
    batch = make_batch((21, 12, 4, 30), (9, 2, 6, 1), gist_ids=())
    two = passes.two(tiny, batch, keep_all=True)
    stepped = passes.two(tiny, batch, keep_all=True, steps=range(1, 9))
    plain = passes.ordinary(tiny)
    for row, (context, question) in enumerate(zip(batch.contexts, batch.questions, strict=True)):
        expected = plain(torch.tensor([context + question])).logits[0, len(context) :]
        for got in (two, stepped):
            assert (got[row, -len(question) :] - expected).abs().max() < FLOAT32


@torch.no_grad()
def test_gists_and_context_together_visible_are_an_ordinary_causal_model(
    tiny: Any, passes: Any, make_batch: Any
) -> None:
    batch = make_batch((21,), (9,))
    ids, layout = batch.joint()
    one = passes.one(tiny, batch, num_visible=layout.prefix_length)
    expected = passes.ordinary(tiny)(ids).logits[:, layout.prefix_length :]
    assert (one - expected).abs().max() < FLOAT32


@torch.no_grad()
def test_batch_composition_and_padding_change_nothing(
    tiny: Any, passes: Any, make_batch: Any
) -> None:
    batch = make_batch()
    together_one, together_two = passes.one(tiny, batch), passes.two(tiny, batch)
    for row, question in enumerate(batch.questions):
        alone = batch.row(row)
        for got in (together_one, together_two):
            for expected in (passes.one(tiny, alone), passes.two(tiny, alone)):
                error = (got[row, -len(question) :] - expected[0]).abs().max()
                assert error < FLOAT32


@torch.no_grad()
def test_what_padding_slots_hold_changes_nothing(tiny: Any, make_batch: Any) -> None:
    batch = make_batch()
    ids, layout = batch.joint()
    real = batch.real()
    suffix = ids.shape[1] - layout.prefix_length
    slot = torch.arange(layout.prefix_length)
    padded = torch.cat([slot < torch.tensor(layout.prefix_padding).unsqueeze(1), ~real], dim=1)
    assert padded.any()
    logits = [
        tiny(
            input_ids=ids.masked_fill(padded, filler),
            position_ids=layout.joint_positions(suffix),
            layout=layout,
            use_cache=False,
        ).logits[:, layout.prefix_length :]
        for filler in (0, 17)
    ]
    assert torch.equal(logits[0][real], logits[1][real])


# ---------------------------------------------------------------------------------------- training


def test_adapter_wrapped_model_keeps_one_pass_equal_to_two(
    tiny: Any, passes: Any, make_batch: Any, make_adapted: Any
) -> None:
    bare = passes.one(tiny, make_batch()).detach()
    model, gist_ids, _ = make_adapted(tiny)
    batch = make_batch(gist_ids=gist_ids)
    one = passes.one(model, batch).detach()
    assert difference(one, passes.two(model, batch), batch.real()) < FLOAT32
    assert difference(one[..., :61], bare, batch.real()) > 0.1, "the adapter does nothing"


def test_gradient_checkpointing_changes_neither_logits_nor_gradients(
    tiny: Any, passes: Any, make_batch: Any, make_adapted: Any
) -> None:
    model, gist_ids, _ = make_adapted(tiny)
    batch = make_batch(gist_ids=gist_ids)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    results = []
    calls = []
    layers = attention_modules(tiny)
    for layer in layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    for checkpointing in (False, True):
        if checkpointing:
            options = {"use_reentrant": False}
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        model.train()
        calls.clear()
        logits = passes.one(model, batch)
        gradients = torch.autograd.grad(logits[:, -1].logsumexp(-1).sum(), trained)
        results.append((logits.detach(), gradients))
        assert len(calls) == len(layers) * (2 if checkpointing else 1)
    (plain, plain_gradients), (saved, saved_gradients) = results
    assert difference(plain, saved, batch.real()) < 1e-6
    for left, right in zip(plain_gradients, saved_gradients, strict=True):
        assert (left - right).abs().max() < 1e-5
    assert any(gradient.any() for gradient in plain_gradients)
    model.eval()
    assert difference(saved, passes.two(model, batch), batch.real()) < FLOAT32


def test_answer_depends_on_the_context_through_the_gists_alone(tiny: Any, make_batch: Any) -> None:
    # Sliding windows end the view of the gists too: the last question token must still see them.
    batch = make_batch((21, 12, 5), (1, 1, 1))
    context, gists, question = context_gradients(tiny, batch, detach=True)
    assert context.abs().max() == 0
    assert gists.abs().max() == 0
    assert question.abs().max() > 1e-3
    window = getattr(tiny.config, "sliding_window", None)
    context, gists, _ = context_gradients(tiny, batch, detach=False)
    assert gists.abs().max() > 1e-3
    assert context.abs().max() > 1e-3, f"window {window}"


def test_answer_does_not_depend_on_the_context_through_an_adapter_either(
    tiny: Any, make_batch: Any, make_adapted: Any
) -> None:
    model, gist_ids, _ = make_adapted(tiny)
    batch = make_batch((21, 12, 5), (1, 1, 1), gist_ids=gist_ids)
    context, gists, _ = context_gradients(model, batch, detach=True)
    assert not context.any()
    assert not gists.any()
    context, gists, _ = context_gradients(model, batch, detach=False)
    assert context.any()
    assert gists.any()


def test_without_visible_slots_the_context_has_no_gradient_at_all(
    tiny: Any, make_batch: Any
) -> None:
    batch = make_batch((21, 12), (5, 3))
    ids, layout = batch.joint(num_visible=0)
    embeddings = tiny.get_input_embeddings()(ids).detach().requires_grad_()
    positions = layout.joint_positions(5)
    output = tiny(inputs_embeds=embeddings, position_ids=positions, layout=layout, use_cache=False)
    (gradient,) = torch.autograd.grad(output.logits[:, -5:].sum(), embeddings)
    assert not gradient[:, : layout.prefix_length].any()


# ---------------------------------------------------------------------------- the proofs have teeth


def suffix_sees_whole_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A one-pass attention that forgets to hide the context; two passes stay as they are."""
    sound = core_attention.gist_attention

    def broken(*args: Any, **options: Any) -> torch.Tensor:
        query, key, value, layout = args
        if layout.stage == "joint":
            layout = replace(layout, num_visible=layout.prefix_length)
        return sound(query, key, value, layout, **options)

    monkeypatch.setattr(attention, "gist_attention", broken)


def suffix_sees_one_context_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = core_attention.gist_attention

    def broken(*args: Any, **options: Any) -> torch.Tensor:
        query, key, value, layout = args
        if layout.stage == "joint":
            layout = replace(layout, num_visible=layout.num_visible + 1)
        return sound(query, key, value, layout, **options)

    monkeypatch.setattr(attention, "gist_attention", broken)


def suffix_mask_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_attention, "suffix_mask", lambda *_: None)


def suffix_window_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = core_attention.suffix_mask
    monkeypatch.setattr(
        core_attention, "suffix_mask", lambda *args: sound(*args[:3], None, args[4])
    )


def prefix_window_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = core_attention._causal
    monkeypatch.setattr(core_attention, "_causal", lambda *args: sound(*args[:4], None, args[5]))


def question_starts_at_the_gists(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second pass counts positions as if the context had never been there."""
    sound = GistLayout.suffix_positions

    def broken(self: GistLayout, start: int, length: int, device: Any = "cpu") -> torch.Tensor:
        if self.stage == "suffix":
            self = replace(self, prefix_length=self.num_visible, prefix_padding=(0, 0, 0))
        return sound(self, start, length, device)

    monkeypatch.setattr(GistLayout, "suffix_positions", broken)


@pytest.mark.parametrize(
    ("architecture", "breakage", "detectors"),
    [
        ("llama", suffix_sees_whole_prefix, {"two passes", "dense mask", "gradient"}),
        ("llama", suffix_sees_one_context_slot, {"two passes", "dense mask", "gradient"}),
        ("mistral-window-8", suffix_sees_whole_prefix, {"two passes", "dense mask", "gradient"}),
        ("llama", suffix_mask_is_lost, {"dense mask", "steps"}),
        ("mistral-window-7", suffix_window_is_lost, {"dense mask"}),
        ("mistral-window-7", prefix_window_is_lost, {"dense mask"}),
        ("llama", question_starts_at_the_gists, {"two passes", "steps"}),
        ("gemma3-window-6", suffix_sees_whole_prefix, {"two passes", "dense mask", "gradient"}),
        ("gemma3-window-6", suffix_window_is_lost, {"dense mask"}),
        ("gemma3-window-6", prefix_window_is_lost, {"dense mask"}),
        ("gemma3-window-6", question_starts_at_the_gists, {"two passes", "steps"}),
        ("gpt-neox", suffix_sees_whole_prefix, {"two passes", "dense mask", "gradient"}),
        ("gpt-neox", suffix_sees_one_context_slot, {"two passes", "dense mask", "gradient"}),
        ("gpt-neox", question_starts_at_the_gists, {"two passes", "steps"}),
    ],
)
def test_the_proofs_notice_a_broken_mask(
    architecture: str,
    breakage: Any,
    detectors: set[str],
    monkeypatch: pytest.MonkeyPatch,
    make_tiny: Any,
    make_batch: Any,
    passes: Any,
) -> None:
    model, batch = make_tiny(architecture), make_batch((21, 12, 7), (5, 2, 5))
    real = batch.real()
    masked = passes.masked(model, batch).detach()

    def alarms() -> set[str]:
        one, two = passes.one(model, batch).detach(), passes.two(model, batch)
        steps = passes.two(model, batch, steps=range(1, 5))
        found = {
            "two passes": difference(one, two, real) > FLOAT32,
            "steps": difference(one, steps, real) > FLOAT32,
            "dense mask": difference(one, masked, real) > FLOAT32,
            "gradient": context_leaks(model, batch),
        }
        return {name for name, alarm in found.items() if alarm}

    assert alarms() == set()
    breakage(monkeypatch)
    assert alarms() >= detectors


def context_leaks(model: Any, batch: Any) -> bool:
    """Whether an answer's gradient reaches the context with the gists' keys and values cut.

    The cut is made here and not by the layout, so that a path beside the gists stays open.
    """
    ids, layout = batch.joint()
    hidden = layout.prefix_length - layout.num_visible
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    cut = []

    def detach_gists(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        before, gists, after = output.split(
            [hidden, layout.num_visible, output.shape[1] - layout.prefix_length], dim=1
        )
        return torch.cat([before, gists.detach(), after], dim=1)

    def detach_fused_gists(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        # Query, key and value of a head lie side by side; the gists' own queries stay.
        heads = output.unflatten(-1, (model.config.num_attention_heads, 3, -1))
        query, key, value = (heads[..., part, :].flatten(2) for part in range(3))
        key, value = (detach_gists(module, inputs, part) for part in (key, value))
        parts = (part.unflatten(-1, (heads.shape[2], -1)) for part in (query, key, value))
        return torch.stack(list(parts), dim=3).flatten(2)

    for layer in attention_modules(model):
        if hasattr(layer, "query_key_value"):
            cut.append(layer.query_key_value.register_forward_hook(detach_fused_gists))
        else:
            for projection in (layer.k_proj, layer.v_proj):
                cut.append(projection.register_forward_hook(detach_gists))
    try:
        length = ids.shape[1] - layout.prefix_length
        output = model(
            inputs_embeds=embeddings,
            position_ids=layout.joint_positions(length),
            layout=layout,
            use_cache=False,
        )
        (gradient,) = torch.autograd.grad(output.logits[:, -1].sum(), embeddings)
    finally:
        for hook in cut:
            hook.remove()
    return bool(gradient[:, :hidden].any())


def test_cutting_the_gists_by_hand_closes_every_path_too(tiny: Any, make_batch: Any) -> None:
    assert not context_leaks(tiny, make_batch())


# ---------------------------------------------------------------------------------------- refusals


def test_a_call_without_a_layout_is_refused(tiny: Any) -> None:
    with pytest.raises(ValueError, match=r"call it as model\(\.\.\., layout=layout\)"):
        tiny(input_ids=torch.tensor([[1, 2, 3]]))


def test_a_mask_beside_the_layout_is_refused(tiny: Any, make_batch: Any) -> None:
    ids, layout = make_batch().joint()
    mask = torch.ones(ids.shape[0], 1, ids.shape[1], ids.shape[1], dtype=torch.bool)
    if "sliding_attention" in (getattr(tiny.config, "layer_types", None) or ()):
        mask = {"full_attention": mask, "sliding_attention": mask}
    with pytest.raises(ValueError, match="pass the layout alone"):
        tiny(input_ids=ids, attention_mask=mask, layout=layout)


def test_a_padding_mask_beside_the_layout_is_refused(make_tiny: Any, make_batch: Any) -> None:
    ids, layout = make_batch().joint()
    mask = torch.ones_like(ids)
    with pytest.raises(ValueError, match="pass the layout alone"):
        make_tiny("llama")(input_ids=ids, attention_mask=mask, layout=layout)


def test_a_layout_of_another_batch_is_refused(make_tiny: Any, make_batch: Any) -> None:
    batch = make_batch()
    ids, _ = batch.joint()
    _, other = batch.row(0).joint()
    with pytest.raises(ValueError, match="do not fit a joint pass of 1 rows"):
        make_tiny("llama")(input_ids=ids, layout=other)


def test_scaling_defaults_to_the_root_of_the_head_size() -> None:
    layout = GistLayout(3, 1, (0,), (0,), "prefix")
    query, key, value = (torch.randn(1, 2, 3, 16) for _ in range(3))
    module = torch.nn.Module()
    default, weights = attention_forward(module, query, key, value, None, layout=layout)
    given, _ = attention_forward(module, query, key, value, None, scaling=0.25, layout=layout)
    assert torch.equal(default, given)
    assert default.shape == (1, 3, 2, 16)
    assert weights is None


@pytest.mark.parametrize(
    ("model_type", "near"), [("llama4", "llama"), ("qwen3_moe", "qwen3"), ("mixtral", "mistral")]
)
def test_unsupported_architectures_are_refused_by_name(model_type: str, near: str) -> None:
    config = AutoConfig.for_model(model_type)
    config.model_type = model_type
    with pytest.raises(UsageError) as raised:
        require_supported(config)
    message = str(raised.value)
    assert repr(model_type) in message
    assert f"did you mean {near!r}?" in message
    assert "--base" in message
    assert "\n" not in message


@pytest.mark.parametrize("model_type", ["gpt2", "gemma2", "gemma3", "phi3", "gptj"])
def test_other_architectures_are_told_what_is_supported(model_type: str) -> None:
    with pytest.raises(UsageError, match=f"{model_type}.*gpt_neox, llama, mistral"):
        require_supported(AutoConfig.for_model(model_type))


@pytest.mark.parametrize(
    ("architecture", "changes", "reason"),
    [
        ("gemma3-window-6", {"attn_logit_softcapping": 50.0}, "bends attention scores"),
        ("gemma3-window-6", {"use_bidirectional_attention": True}, "gist attention is causal"),
    ],
)
def test_what_cannot_be_exact_is_refused_by_name(
    architecture: str, changes: dict[str, Any], reason: str, make_tiny: Any
) -> None:
    require_supported(make_tiny(architecture).config)
    (field,) = changes
    with pytest.raises(UsageError, match=f"^{field} .* gemma3_text.*{reason}.*--base$"):
        require_supported(make_tiny(architecture, **changes).config)


LENGTH_DEPENDENT_ROPES: dict[str, dict[str, Any]] = {
    "dynamic": {"factor": 4.0},
    "longrope": {
        "long_factor": [4.0] * 4,
        "short_factor": [1.0] * 4,
        "original_max_position_embeddings": 24,
    },
}


@pytest.mark.parametrize("rope_type", LENGTH_DEPENDENT_ROPES)
def test_rotary_phases_that_depend_on_the_length_of_a_pass_are_refused_for_a_reason(
    rope_type: str, make_tiny: Any, make_batch: Any, passes: Any
) -> None:
    rope = {"rope_type": rope_type, "rope_theta": 1e4, **LENGTH_DEPENDENT_ROPES[rope_type]}
    model = make_tiny("llama", max_position_embeddings=24, rope_parameters=rope)
    with pytest.raises(UsageError, match=f"^rope_type '{rope_type}' .* phases depend .*--base$"):
        require_supported(model.config)
    batch = make_batch((21, 12), (9, 2))
    with torch.no_grad():
        two, one = passes.two(model, batch), passes.one(model, batch)
    assert difference(one, two, batch.real()) > 0.1


def test_rotary_phases_of_one_kind_of_layer_are_refused_too(make_tiny: Any) -> None:
    default = {"rope_type": "default", "rope_theta": 1e4}
    for rope_type, refused in (("linear", False), ("dynamic", True)):
        full = {"rope_type": rope_type, "rope_theta": 1e4, "factor": 4.0}
        rope = {"sliding_attention": default, "full_attention": full}
        config = make_tiny("gemma3-window-6", rope_parameters=rope).config
        with pytest.raises(UsageError, match="dynamic") if refused else nullcontext():
            require_supported(config)


def test_a_cap_on_attention_scores_is_refused() -> None:
    layout = GistLayout(3, 1, (0,), (0,), "prefix")
    query, key, value = (torch.randn(1, 2, 3, 16) for _ in range(3))
    with pytest.raises(ValueError, match="cannot cap attention scores, at 50"):
        attention_forward(torch.nn.Module(), query, key, value, None, layout=layout, softcap=50.0)


def test_the_attention_is_registered_under_its_name(tiny: Any) -> None:
    assert tiny.config._attn_implementation == ATTENTION
