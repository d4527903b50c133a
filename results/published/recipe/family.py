"""Make a small Qwen3 from nothing, so that the training recipe can be shown on another family.

It gets a tokenizer of its own, from documents of the training split, and learns to answer with the
whole context visible: `niah_passkey`, and `niah_labelled_2` by label and as a list. Documents alone
leave it choosing freely between two labels, and those of the training split are learnt by heart. So
it learns first to copy (drawn tokens, and the same again), then to pick (needles alone, with drawn
labels and numbers, and several questions), and then documents, in most of which the labels are
replaced by drawn ones, and all numbers. Matrices are trained by Muon (Jordan et al., 2024,
https://kellerjordan.github.io/posts/muon), the embedding and norms by AdamW. What it writes is a
folder as on the hub, with `pretraining.jsonl` beside the weights, whose last line says how many
answers of the validation split are right::

    python results/published/recipe/family.py --output toy-qwen3 --seconds 1200
    gistbench train --base.name toy-qwen3 --base.dtype float32 ...

Loss on answers alone teaches no language: this is a base for trying recipes, not a language model.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from family_rows import Row, Rows, train_tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.utils.logging import disable_progress_bar

from gistbench.training.examples import IGNORED

POSITIONS = 2048
WIDTH, LAYERS, HEADS, KEY_VALUE_HEADS, HEAD_DIM, INNER = 128, 4, 8, 8, 16, 384
MUON_RATE, ADAM_RATE, WARM_UP = 0.02, 3e-3, 30
COOL_DOWN = 0.3
"""Last share of the training, in which the rates fall to a twentieth."""

STAGES = (
    ((1.0, 0.0, 0.0), "repeats", 0.5, 0.3),
    ((0.1, 0.8, 0.1), "pairs", 0.7, 0.55),
    ((0.05, 0.15, 0.8), "", 1.0, 1.0),
)
"""Shares of repeats, pairs and documents; the kind, and its share of right rows, that end a stage;
the share of the training at which it ends even so."""

LOGGED, SAVED = 50, 300
"""Steps between rows of the log; between checkpoints, with validation."""

Answered = tuple[str, bool]
"""The kind of a row, and whether it is right."""


def main() -> None:
    """Read the command line, train and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the model")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=1200, help="training time")
    parser.add_argument("--context-tokens", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64, help="rows a step")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    disable_progress_bar()
    torch.manual_seed(options.seed)
    tokenizer = train_tokenizer(options.seed)
    tokenizer.save_pretrained(options.output)
    model = new_model(tokenizer).to(options.device)
    log = pretrain(model, Rows(tokenizer, options.context_tokens, options.seed), options)
    text = "".join(json.dumps(row) + "\n" for row in log)
    (options.output / "pretraining.jsonl").write_text(text, encoding="utf-8")


def new_model(tokenizer: Any) -> Any:
    """Random weights of the shape above."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        head_dim=HEAD_DIM,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    model.set_attn_implementation("eager")  # of so short rows the fastest
    return model


def pretrain(model: Any, rows: Rows, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train, with the whole context visible; returns the log."""
    matrices = [weight for name, weight in model.named_parameters() if is_matrix(name, weight)]
    others = [weight for name, weight in model.named_parameters() if not is_matrix(name, weight)]
    optimizers = [
        torch.optim.Muon(matrices, lr=MUON_RATE),
        torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    log: list[dict[str, Any]] = []
    answered: list[Answered] = []
    start, step, done, stage = time.monotonic(), 0, 0.0, 0
    while done < 1:
        scale = min(1.0, (step + 1) / WARM_UP, 0.05 + 0.95 * (1 - done) / COOL_DOWN)
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * scale
        loss, now = loss_of(model, rows.batch(options.batch, STAGES[stage][0]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        answered += now
        step += 1
        done = (time.monotonic() - start) / options.seconds
        if step % LOGGED and done < 1:
            continue
        row = {"step": step, "seconds": round(done * options.seconds), "stage": stage + 1}
        log.append(row | shares(answered))
        _, kind, enough, latest = STAGES[stage]
        if kind and (log[-1].get(kind, 0.0) >= enough or done >= latest):
            stage += 1
        if step % SAVED == 0 or done >= 1:
            log[-1]["validation"] = validation(model, rows, options.batch)
            model.save_pretrained(options.output)
        print(log[-1], flush=True)
        answered = []
    return log


def is_matrix(name: str, weight: torch.Tensor) -> bool:
    """Whether Muon trains it."""
    return weight.ndim == 2 and "embed" not in name and "lm_head" not in name


def loss_of(model: Any, batch: list[Row]) -> tuple[torch.Tensor, list[Answered]]:
    """Cross-entropy, the mean of each row's tokens and then of rows; and which are right.

    A list is long, and would otherwise leave little of the loss to picking by label.
    """
    longest = max(len(ids) for ids, _, _ in batch)
    device = model.device
    ids = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids, _, _ in batch], device=device)
    labels = torch.tensor(
        [[*labels[1:], *[IGNORED] * (longest + 1 - len(labels))] for _, labels, _ in batch],
        device=device,
    )
    learned = labels != IGNORED
    with torch.autocast(device.type, torch.bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[learned]).float()
    losses = torch.zeros(labels.shape, device=device)
    losses[learned] = F.cross_entropy(logits, labels[learned], reduction="none")
    wrong = torch.zeros_like(learned)
    wrong[learned] = logits.argmax(-1) != labels[learned]
    right = (~wrong.any(1)).tolist()
    answered = [(kind, is_right) for (_, _, kind), is_right in zip(batch, right, strict=True)]
    return (losses.sum(1) / learned.sum(1)).mean(), answered


def shares(answered: list[Answered]) -> dict[str, float]:
    """Share of right rows of each kind."""
    right: dict[str, list[bool]] = {}
    for kind, is_right in answered:
        right.setdefault(kind, []).append(is_right)
    return {kind: round(sum(of) / len(of), 4) for kind, of in sorted(right.items())}


@torch.no_grad()
def validation(model: Any, rows: Rows, size: int) -> dict[str, float]:
    """Share of right answers in the validation split, where each token is given those before it."""
    answered: list[Answered] = []
    for first in range(0, len(rows.validation), size):
        answered += loss_of(model, rows.validation[first : first + size])[1]
    return shares(answered)


if __name__ == "__main__":
    main()
