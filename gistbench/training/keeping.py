"""A loss that keeps an adapter from forgetting: in ordinary text it is to change nothing.

The text is the base model's own, so that no corpus is needed and none can leak into a test. It is
sampled as in LLM-QAT (Liu et al., 2023, "Data-Free Quantization Aware Training for Large Language
Models", arXiv 2305.17888): from a random token, a few tokens greedily, the rest by chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import broadcast
from torch.utils.checkpoint import checkpoint

from gistbench.config import TrainConfig
from gistbench.errors import UsageError
from gistbench.launch import Launch
from gistbench.models.cache import open_cache
from gistbench.models.decode import continue_layout, no_context
from gistbench.models.loading import BaseModel, key_value_bytes_per_token
from gistbench.models.random_weights import random_ids
from gistbench.models.switch import base_weights
from gistbench.training.forgetting import Progress, text_logits
from gistbench.training.share import Share

WINDOWS, WINDOW_TOKENS = 2048, 256
"""Of the text, at most, all sampled before step 1. A training that reads a few over and over keeps
what they say and nothing else: of 64 windows the loss fell to 0.009 nats a token in 950 steps, and
of others that the same model had said it was 0.063."""

BATCH_BYTES, BATCH_BYTES_CPU = 6 * 2**30, 2**30
"""That a batch takes at most while it is sampled: the same on every GPU and beside any other
program, since kernels round by the size of their batch, and a resumed training samples again."""

CHOICE_BYTES = 32
"""Of a choice among the vocabulary, for each entry: logits, probabilities and their sums."""

WINDOWS_A_STEP = 4
"""Read in each step, by all processes together; the next step takes the next ones."""

GREEDY_TOKENS = 4
"""Behind a window's first: they lead from any token to something that is said."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """How far an adapter moves the predictions of its base model in ordinary text.

    Attributes:
        text: Token ids ``(windows, window_tokens)``, the same in every process.
        num_text_tokens: Vocabulary that predictions are compared over; gist rows follow it.
        share: Of this process in a step's windows, which are cut among all.
    """

    text: torch.Tensor
    num_text_tokens: int
    share: Share = field(default_factory=Share)

    def loss(self, model: torch.nn.Module, step: int) -> torch.Tensor:
        """This process's part of a step's mean KL(base || adapter), nats per token: a scalar.

        The sum of all processes' parts is the mean over the positions of the step's windows. The
        text is read causally, as `gistbench.training.forgetting` reads it: there are no gists.

        Args:
            model: A `PeftModel`, possibly wrapped by a launcher; it answers with its adapter.
            step: Steps trained before this one.
        """
        windows = self._windows(step)
        rows = self.share.rows(len(windows))
        if not rows:  # more processes than windows
            return torch.zeros((), device=self.text.device)
        mine = windows[rows.start : rows.stop]
        unwrapped = getattr(model, "module", model)
        before = self._base_logits(unwrapped, mine)
        after = text_logits(model, mine)
        # Row by row, and again in the backward pass: float32 copies of all rows at once may take
        # more than the model.
        parts = [
            checkpoint(self._divergence, *pair, use_reentrant=False, preserve_rng_state=False)
            for pair in zip(before, after, strict=True)
        ]
        return torch.stack(parts).sum() / windows.numel()

    def _windows(self, step: int) -> torch.Tensor:
        first = step * WINDOWS_A_STEP % len(self.text)
        return self.text[first : first + WINDOWS_A_STEP]

    @torch.no_grad()
    def _base_logits(self, model: Any, windows: torch.Tensor) -> torch.Tensor:
        causal = model.get_base_model()
        training = causal.training
        causal.eval()  # its own dropout, where it has one, is no part of what is to be kept
        with base_weights(causal):
            logits = text_logits(model, windows)
        causal.train(training)
        return logits

    def _divergence(self, base: torch.Tensor, adapted: torch.Tensor) -> torch.Tensor:
        expected, found = (
            row[:, : self.num_text_tokens].float().log_softmax(-1) for row in (base, adapted)
        )
        return F.kl_div(found, expected, reduction="sum", log_target=True)


def require_keepable(config: TrainConfig) -> None:
    """Refuse a weight on forgetting where nothing is forgotten, or where it cannot be measured.

    Raises:
        UsageError: Says which.
    """
    if not config.training.keep_weight:
        without = {"keep_from_tokens": "from when", "keep_rise_steps": "how soon"}
        for name, what in without.items():
            if getattr(config.training, name):
                raise UsageError(
                    f"training.{name} says {what} a loss counts that has no weight; pass "
                    "--training.keep-weight 10, or leave it out"
                )
        return
    weight = f"training.keep_weight {config.training.keep_weight:g}"
    if config.adapter.answer_with == "base":
        raise UsageError(
            f"{weight} does not go with adapter.answer_with base, whose answers come from the base "
            "model, which forgets nothing; leave it out"
        )
    if config.training.keep_from_tokens > config.data.context_tokens:
        raise UsageError(
            f"{weight} would never count: training.keep_from_tokens "
            f"{config.training.keep_from_tokens} is longer than data.context_tokens "
            f"{config.data.context_tokens}; lower it"
        )
    steps = config.training.schedule_steps or config.training.max_steps
    if config.training.keep_rise_steps > steps:
        raise UsageError(
            f"{weight} would never be reached: it rises over training.keep_rise_steps "
            f"{config.training.keep_rise_steps}, and there are {steps} steps; lower it"
        )
    if config.training.shard_base:
        raise UsageError(
            f"{weight} samples text from the base model and reads it in every step, which "
            "training.shard_base does not allow; leave one of them out"
        )


def keeping_of(
    config: TrainConfig,
    base: BaseModel,
    launch: Launch,
    *,
    progress: Progress = lambda done, total: None,
) -> Keeping | None:
    """What a training is to keep, or None where its weight is 0; no random state changes.

    Args:
        config: Of the training.
        base: Before anything is added to it: what it says is what is to be kept.
        launch: Of this process.
        progress: As `sampled_text` takes it.
    """
    if not config.training.keep_weight:
        return None
    windows = min(WINDOWS, WINDOWS_A_STEP * config.training.max_steps)
    num_tokens = min(WINDOW_TOKENS, base.max_positions)
    seed = config.training.seed
    if config.weights == "random":  # which say nothing: any tokens take the same time
        drawn = random_ids(windows * num_tokens, base.num_text_tokens, seed)
        text = torch.tensor(drawn, device=base.model.device).view(windows, num_tokens)
    else:
        text = sampled_text(base, windows, num_tokens, seed=seed, progress=progress)
    if launch.processes > 1:  # kernels of two devices may round a choice apart
        text = broadcast(text)
    share = Share(rank=launch.rank, processes=launch.processes)
    return Keeping(text, base.num_text_tokens, share)


@torch.no_grad()
def sampled_text(
    base: BaseModel,
    windows: int,
    window_tokens: int,
    *,
    seed: int,
    progress: Progress = lambda done, total: None,
) -> torch.Tensor:
    """Text that a base model says unasked, ``(windows, window_tokens)`` on its device.

    The same for the same seed on the same kind of device, whatever else draws random numbers or
    takes memory. Special tokens are left out, as are rows of the vocabulary that stand for no
    token.

    Args:
        base: With nothing added to it.
        windows: To sample.
        window_tokens: Of each.
        seed: Of the choices.
        progress: Told of tokens sampled, and of how many there will be. On a CPU it is a wait.
    """
    device = base.model.device
    generator = torch.Generator(device).manual_seed(seed)
    allowed = (~_never(base)).nonzero().flatten()
    first = allowed[torch.randint(len(allowed), (windows, 1), generator=generator, device=device)]
    # For all windows at once: but for rounding, no window depends on the batch that it is in.
    chances = torch.rand(
        (windows, window_tokens), generator=generator, device=device, dtype=torch.float64
    )
    batch = _windows_at_once(base, window_tokens)
    parts = zip(torch.split(first, batch), torch.split(chances, batch), strict=True)
    text: list[torch.Tensor] = []
    for ids, drawn in parts:
        before = sum(part.numel() for part in text)
        text.append(_said(base, ids, drawn, partial(_further, progress, before, chances.numel())))
    if device.type == "cuda":
        torch.cuda.empty_cache()  # keys and values that the training itself never holds
    return torch.cat(text)


def _further(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _windows_at_once(base: BaseModel, window_tokens: int) -> int:
    room = BATCH_BYTES if base.model.device.type == "cuda" else BATCH_BYTES_CPU
    a_token = key_value_bytes_per_token(base.model.config, base.model.dtype)
    return max(1, room // (window_tokens * a_token + CHOICE_BYTES * base.num_text_tokens))


def _said(
    base: BaseModel, ids: torch.Tensor, chances: torch.Tensor, done: Callable[[int], None]
) -> torch.Tensor:
    """What follows first tokens ``(windows, 1)``, by a number from 0 to 1 for each token."""
    windows, window_tokens = chances.shape
    never = _never(base)
    text = [ids]
    nothing = no_context(windows)
    layout, cache = continue_layout(nothing, (0,) * windows), open_cache(nothing, window_tokens)
    for place in range(window_tokens - 1):
        logits = base.model(
            input_ids=ids,
            position_ids=layout.suffix_positions(place, 1, ids.device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            layout=layout,
        ).logits[:, -1, : base.num_text_tokens]
        logits = logits.float().masked_fill(never, -torch.inf)
        if place < GREEDY_TOKENS:
            ids = logits.argmax(dim=-1, keepdim=True)
        else:
            below = logits.softmax(dim=-1).cumsum(dim=-1, dtype=torch.float64)
            at = chances[:, place : place + 1] * below[:, -1:]
            ids = torch.searchsorted(below, at, right=True)
        text.append(ids)
        done(windows * len(text))
    return torch.cat(text, dim=1)


def _never(base: BaseModel) -> torch.Tensor:
    tokenizer = base.tokenizer
    never = torch.zeros(base.num_text_tokens, dtype=torch.bool)
    never[len(tokenizer) :] = True
    added = tokenizer.added_tokens_decoder.items()
    special = {*tokenizer.all_special_ids, *(place for place, token in added if token.special)}
    never[[place for place in special if place < base.num_text_tokens]] = True
    return never.to(base.model.device)
