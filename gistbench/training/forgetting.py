"""What a training made the model forget: perplexity on prose without gists, before and after.

A checkpoint changes the weights that read everything, not the gists alone. The same windows of
prose that no training saw go through the base model and through the checkpoint, and each window is
compared with itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from gistbench import generators
from gistbench.errors import TooLongError, UsageError
from gistbench.models.catalog import find_model
from gistbench.models.checkpoint import load_checkpoint
from gistbench.models.decode import continue_layout, no_context
from gistbench.models.loading import load_base
from gistbench.models.manifest import read_manifest
from gistbench.records import Record

SHIPPED_TEXT = "prose of niah_passkey_prose, test split"
FEWEST_WINDOWS = 2

Progress = Callable[[int, int], None]


class Forgetting(Record):
    """Perplexity of base model and checkpoint on the same windows.

    Attributes:
        dtype, quantization, device_name: Of both.
        text: What was read.
        text_sha256: Of all of it.
        num_tokens: Predicted; each window's first token is given.
        base_perplexity: Of the base model, over tokens of text alone: gist tokens do not compete.
        perplexity: Of the checkpoint, likewise.
        ratio: The second over the first: 1.02 is a loss of 2 %.
        low, high: 95 % interval of the ratio, by Student's t over the windows' differences.
    """

    checkpoint: str
    checkpoint_sha256: str
    base: str
    dtype: str
    quantization: str
    device_name: str
    text: str
    text_sha256: str
    windows: int
    window_tokens: int
    num_tokens: int
    base_perplexity: float
    perplexity: float
    ratio: float
    low: float
    high: float


def forgetting(
    folder: Path,
    *,
    device: str,
    text: Path | None = None,
    windows: int = 64,
    window_tokens: int = 1024,
    batch_size: int = 8,
    progress: Progress = lambda done, total: None,
) -> Forgetting:
    """Compare a checkpoint with its own base model on prose, without gists.

    Args:
        folder: The checkpoint, of either objective.
        device: A torch device; bfloat16 on a GPU, float32 on a CPU.
        text: A UTF-8 text file, or a folder of them; None: the held-out prose that ships.
        windows: Parts of the text, spread evenly over it.
        window_tokens: Of each.
        batch_size: Windows read at once.
        progress: Told of windows read, and of how many there are in both passes.

    Raises:
        TooLongError: The model has no positions for a window.
        UsageError: The text is too short or cannot be read, or a number allows no comparison.
        GistbenchError: As `load_base` and `load_checkpoint`.
    """
    if windows < FEWEST_WINDOWS or window_tokens < FEWEST_WINDOWS:
        raise UsageError(
            f"{windows} windows of {window_tokens} tokens show nothing; pass --windows and "
            f"--window-tokens of {FEWEST_WINDOWS} or more"
        )
    manifest = read_manifest(folder)
    on_cpu = device == "cpu"
    base = load_base(
        find_model(manifest.base.name),
        dtype=torch.float32 if on_cpu else torch.bfloat16,
        device=device,
        quantization=manifest.base.quantization,
    )
    if window_tokens > base.max_positions:
        raise TooLongError(
            f"--window-tokens {window_tokens:,} exceeds the {base.max_positions:,} positions of "
            f"{manifest.base.name}; pass fewer"
        )
    prose = generators.held_out_prose(text)
    rows = windows_of(
        base.tokenizer(prose, add_special_tokens=False)["input_ids"], windows, window_tokens
    )

    def losses(model: torch.nn.Module, passed: int) -> torch.Tensor:
        parts = []
        for first in range(0, windows, batch_size):
            batch = rows[first : first + batch_size].to(device)
            parts.append(window_losses(model, batch, base.num_text_tokens).cpu())
            progress(passed + min(windows, first + batch_size), 2 * windows)
        return torch.cat(parts)

    before = losses(base.model, 0)
    trained = load_checkpoint(
        base, folder, objective=manifest.objective, allow_other_precision=on_cpu
    )
    after = losses(trained.model, windows)
    ratio, low, high = ratio_of((after - before).tolist())
    return Forgetting(
        checkpoint=manifest.name,
        checkpoint_sha256=manifest.adapter_sha256,
        base=manifest.base.name,
        dtype=base.reference.dtype,
        quantization=base.reference.quantization,
        device_name=_device_name(device),
        text=str(text) if text is not None else SHIPPED_TEXT,
        text_sha256=hashlib.sha256(prose.encode()).hexdigest(),
        windows=windows,
        window_tokens=window_tokens,
        num_tokens=windows * (window_tokens - 1),
        base_perplexity=math.exp(before.mean()),
        perplexity=math.exp(after.mean()),
        ratio=ratio,
        low=low,
        high=high,
    )


def windows_of(tokens: Sequence[int], windows: int, window_tokens: int) -> torch.Tensor:
    """Parts of a text that do not overlap, spread evenly over it: ``(windows, window_tokens)``.

    Raises:
        UsageError: The text has not so many.
    """
    there = len(tokens) // window_tokens
    if there < FEWEST_WINDOWS:
        raise UsageError(
            f"the text has {len(tokens):,} tokens, fewer than {FEWEST_WINDOWS} windows of "
            f"{window_tokens:,}; pass a smaller --window-tokens, or a longer --text"
        )
    if there < windows:
        raise UsageError(
            f"the text has {len(tokens):,} tokens, {there} windows of {window_tokens:,}; pass "
            f"--windows {there} or less, a smaller --window-tokens, or a longer --text"
        )
    starts = [window_tokens * (number * there // windows) for number in range(windows)]
    return torch.tensor([tokens[start : start + window_tokens] for start in starts])


@torch.inference_mode()
def window_losses(model: torch.nn.Module, rows: torch.Tensor, num_text_tokens: int) -> torch.Tensor:
    """Mean cross-entropy of every window in nats, float64 ``(batch,)``.

    Args:
        model: With the gist attention; sees no gist token.
        rows: Token ids, ``(batch, window_tokens)``; the first of each is given.
        num_text_tokens: Vocabulary that a next token is drawn from; gist rows follow it.
    """
    logits = text_logits(model, rows)[:, :-1, :num_text_tokens]
    found = [
        F.cross_entropy(row.float(), ids[1:], reduction="mean")
        for row, ids in zip(logits, rows, strict=True)
    ]
    return torch.stack(found).double()


def text_logits(model: Any, rows: torch.Tensor) -> torch.Tensor:
    """What a model predicts in plain text, ``(batch, window_tokens, vocabulary)``.

    Text is read as answers are given: by the weights that answer, behind a context of nothing.
    """
    num_rows, length = rows.shape
    layout = continue_layout(no_context(num_rows), (0,) * num_rows)
    logits: torch.Tensor = model(
        input_ids=rows,
        position_ids=layout.suffix_positions(0, length, rows.device),
        layout=layout,
        use_cache=False,
    ).logits
    return logits


def ratio_of(differences: Sequence[float]) -> tuple[float, float, float]:
    """Ratio of perplexities and its 95 % interval, from differences of the windows' losses."""
    from scipy import stats

    mean = sum(differences) / len(differences)
    if len(set(differences)) == 1:
        return math.exp(mean), math.exp(mean), math.exp(mean)
    interval = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    return math.exp(mean), math.exp(interval.low), math.exp(interval.high)


def _device_name(device: str) -> str:
    return "CPU" if device == "cpu" else torch.cuda.get_device_name(device)
