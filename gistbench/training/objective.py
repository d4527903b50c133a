"""What is learned from: the logits of every answer, from a context that is read once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import torch

from gistbench.core.layout import GistLayout
from gistbench.models.cache import collected, collecting_cache, open_cache
from gistbench.training.examples import IGNORED

Batch = dict[str, torch.Tensor]
Watch = Callable[[torch.Tensor], None]


FIRST_TOKENS = 2
"""Of an answer: a space may be a token of its own, and picks nothing."""


LEAST_SHARE = 1e-6
"""Below it the loss on where questions look rises no further."""


class Pointing:
    """Where questions look: a `Watch` that adds up their attention on the gists.

    With segmented gists it is known which gist read the needle that a question asks for. Of all the
    attention that is paid to gists where an answer begins, over heads and some layers, the share
    that falls on that one says whether the question picks by what it asks. Further on the answer's
    own digits say whose value it is. Supervised attention: Liu et al., 2016, "Neural Machine
    Translation with Supervised Attention" (arXiv 1609.04186).

    Args:
        batch: As `gistbench.training.examples.collate` makes it.
        layers: Those that the loss counts; empty: all. Lower ones cannot tell yet what is asked.
    """

    def __init__(self, batch: Batch, layers: Collection[int] = ()) -> None:
        self._layers = layers
        self._holders = batch["holders"]
        predicting = batch["labels"] != IGNORED
        self._predicting = predicting & (predicting.cumsum(dim=1) <= FIRST_TOKENS)
        self._on_right: list[torch.Tensor] = []
        self._on_any: list[torch.Tensor] = []

    def __call__(self, shares: torch.Tensor) -> None:
        """Take one layer's shares, ``(turns, heads, S, gists)``."""
        num_answer = self._predicting.shape[1]
        # The slot before an answer's token predicts it.
        looked = shares[:, :, -(num_answer + 1) : -1].sum(dim=1)
        looked = looked * self._predicting.unsqueeze(2)
        self._on_right.append((looked * self._holders.unsqueeze(1)).sum(dim=(1, 2)))
        self._on_any.append(looked.sum(dim=(1, 2)))

    @property
    def by_layer(self) -> torch.Tensor:
        """The share of each layer, ``(layers, turns)``; NaN where nobody knows the right gist."""
        right, every = torch.stack(self._on_right), torch.stack(self._on_any)
        known = known_turns(self._holders)
        return torch.where(known, right / every, torch.nan)

    def loss(self) -> torch.Tensor:
        """Mean over layers of the share's negative logarithm, summed over turns with a known gist.

        Without such turns it is 0.
        """
        counted = self._layers or range(len(self._on_right))
        right = torch.stack([self._on_right[layer] for layer in counted])
        every = torch.stack([self._on_any[layer] for layer in counted])
        known = known_turns(self._holders)
        if not known.any():
            return right.sum() * 0
        share = (right[:, known] / every[:, known]).clamp_min(LEAST_SHARE)
        return -share.log().mean(dim=0).sum()


def known_turns(holders: torch.Tensor) -> torch.Tensor:
    """Whether somebody knows which gists read a turn's needle, ``(turns,)``."""
    return holders.any(dim=1)


def layout_of(batch: Batch, num_visible: int | None, *, segmented: bool = False) -> GistLayout:
    """The layout of a collated batch's prefix, with the paddings of one turn a row.

    Args:
        batch: As `gistbench.training.examples.collate` makes it.
        num_visible: Slots at the prefix's end that question and answer see: the gists. None: the
            whole prefix, which without gist ids is the context.
        segmented: Each gist reads its own part of the context.
    """
    num_rows, prefix_length = batch["prefix_ids"].shape
    single = len(batch["owners"]) == num_rows
    return GistLayout(
        prefix_length=prefix_length,
        num_visible=prefix_length if num_visible is None else num_visible,
        prefix_padding=tuple(batch["prefix_padding"].tolist()),
        suffix_padding=tuple(batch["suffix_padding"].tolist()) if single else (0,) * num_rows,
        stage="joint",
        segmented=segmented,
    )


def answer_logits(
    model: torch.nn.Module,
    batch: Batch,
    layout: GistLayout,
    *,
    answers_only: bool,
    watch: Watch | None = None,
    apart: bool = False,
) -> torch.Tensor:
    """Logits that predict the answers' tokens.

    A batch of one turn a row takes one joint pass. Where a context has several turns it is read
    once, and its visible keys and values, gradient and all, serve each of them in a second pass;
    the two give the same logits (`gistbench.core`) where the weights are the same.

    Args:
        model: With the gist attention; possibly wrapped by a launcher.
        batch: As `gistbench.training.examples.collate` makes it.
        layout: Of the prefix, from `layout_of`.
        answers_only: Compute no logits elsewhere.
        watch: Given every layer's `gistbench.core.shares.visible_shares`.
        apart: Answer in a pass of its own always: by other weights than those that read, see
            `gistbench.models.switch`.

    Returns:
        ``(turns, A, vocabulary)`` in float32.
    """
    num_answer = batch["labels"].shape[1]
    kept = num_answer + 1 if answers_only else 0
    watching = {} if watch is None else {"watch": watch}
    num_rows, suffix = len(batch["prefix_ids"]), batch["suffix_ids"]
    if len(batch["owners"]) == num_rows and not apart:
        logits = model(
            input_ids=torch.cat([batch["prefix_ids"], suffix], dim=1),
            position_ids=with_gaps(
                layout.joint_positions(suffix.shape[1], suffix.device), batch["gaps"]
            ),
            layout=layout,
            use_cache=False,
            logits_to_keep=kept,
            **watching,
        ).logits
    else:
        logits = _in_two_passes(model, batch, layout, kept, watching)
    answers: torch.Tensor = logits[:, -(num_answer + 1) : -1].float()
    return answers


def with_gaps(positions: torch.Tensor, gaps: torch.Tensor) -> torch.Tensor:
    """Move what stands before a row's gap away from all that is behind it.

    Rotary phases know differences of positions alone, so the first tokens may stand below 0, and
    gists, question and answer stay where they are. A short context teaches distances of a long one
    in this way: Zhu et al., "PoSE: Efficient Context Window Extension of LLMs via Positional
    Skip-wise Training", 2023 (arXiv 2309.10400).

    Args:
        positions: Of a pass that begins with the prefix, ``(batch, slots)``.
        gaps: As `gistbench.training.examples.collate` makes them, ``(batch, 2)``.
    """
    slots = torch.arange(positions.shape[1], device=positions.device)
    return positions - (slots < gaps[:, :1]) * gaps[:, 1:]


def _in_two_passes(
    model: Any, batch: Batch, layout: GistLayout, logits_to_keep: int, watching: dict[str, Watch]
) -> torch.Tensor:
    prefix, suffix = batch["prefix_ids"], batch["suffix_ids"]
    reading = layout.at("prefix")
    cache = collecting_cache(reading, _config_of(model).num_hidden_layers)
    model(
        input_ids=prefix,
        position_ids=with_gaps(reading.prefix_positions(prefix.device), batch["gaps"]),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        layout=reading,
    )
    read = collected(cache, reading).select(batch["owners"].tolist())
    asking = replace(read.layout, suffix_padding=tuple(batch["suffix_padding"].tolist()))
    logits: torch.Tensor = model(
        input_ids=suffix,
        position_ids=asking.suffix_positions(0, suffix.shape[1], suffix.device),
        past_key_values=open_cache(read, room=None),
        use_cache=True,
        logits_to_keep=logits_to_keep,
        layout=asking,
        **watching,
    ).logits
    return logits


def _config_of(model: Any) -> Any:
    return getattr(model, "module", model).config
