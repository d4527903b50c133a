"""What a checkpoint's questions look at, and whose value they state where they are wrong.

A diagnosis for whoever trains, on validation samples; never a result. With several values in a
document a compressor can fail in two ways: a value is not in the gists, or it is and the question
does not pick it. Rates of exact match cannot tell the two apart; the shares here can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from gistbench import generators
from gistbench.errors import TooLongError, UsageError
from gistbench.models.catalog import find_model
from gistbench.models.checkpoint import GistModel, load_checkpoint
from gistbench.models.decode import answer, read_contexts
from gistbench.models.loading import BaseModel, load_base
from gistbench.models.manifest import read_manifest
from gistbench.records import Record, Stated
from gistbench.training.examples import Example, build_example, collate
from gistbench.training.objective import Pointing, answer_logits, layout_of

MAX_NEW_TOKENS = 48
QUESTION_TOKENS = 64
"""Room that is left for a question."""


class Inspection(Record):
    """What was seen.

    Attributes:
        stated: Answers by what they state: the value asked for; another value of the document,
            whole; characters that stand at their places in several of its values; none of these.
        num_values: Values a document holds, on average; 1 / num_values is picking blindly.
        pointed_by_layer: Of the attention that answers pay to gists, the share on those that read
            the needle; None where each gist reads the whole context.
        pointed_blindly: The share if attention were spread evenly; None likewise.
    """

    checkpoint: str
    task: str
    context_tokens: int
    samples: int
    stated: dict[Stated, int]
    num_values: float
    pointed_by_layer: tuple[float, ...] | None
    pointed_blindly: float | None


def inspect(
    folder: Path,
    *,
    task: str,
    context_tokens: int,
    samples: int,
    device: str,
    batch_size: int = 10,
    seed: int = 0,
) -> Inspection:
    """Ask a checkpoint about validation samples and watch.

    Args:
        folder: The checkpoint.
        task: One that has a training split; labelled ones say most.
        context_tokens: Exact length of the contexts.
        samples: How many.
        device: Where to run.
        batch_size: Contexts read at once.
        seed: Of the series of samples.

    Raises:
        TooLongError: The model has no positions for it.
        UsageError: The checkpoint has no gists, or no sample of this length can be made.
    """
    generators.require_trained((task,), "--task")
    manifest = read_manifest(folder)
    if not manifest.num_gists:
        raise UsageError(
            f"checkpoint {manifest.name} has no gists to look at; pass one of objective gist"
        )
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    base = load_base(
        find_model(manifest.base.name),
        dtype=dtype,
        device=device,
        quantization=manifest.base.quantization,
    )
    room = base.max_positions - manifest.num_gists - QUESTION_TOKENS - MAX_NEW_TOKENS
    if context_tokens > room:
        raise TooLongError(
            f"{context_tokens:,} tokens of context with gists, question and answer exceed the "
            f"{base.max_positions:,} positions of {manifest.base.name}; pass --context-tokens "
            f"{room} or less"
        )
    trained = load_checkpoint(base, folder)
    stated: Counter[Stated] = Counter()
    shares, even, num_values = [], [], 0
    for first in range(0, samples, batch_size):
        batch = [
            build_example(
                base.tokenizer,
                task=task,
                context_tokens=context_tokens,
                index=index,
                seed=seed,
                num_questions=64,
                locate=True,
                split="validation",
            )
            for index in range(first, min(samples, first + batch_size))
        ]
        values = [_values(base, example) for example in batch]
        num_values += sum(map(len, values))
        for said, known in zip(_answers(trained, base, batch), values, strict=True):
            stated[what_is_stated(said, known)] += 1
        if manifest.gist_view == "segments":
            own = [Example(example.context, example.turns[:1]) for example in batch]
            by_layer, holders = _pointed(trained, own)
            shares.append(by_layer)
            even.append(holders)
    known_gist = torch.cat(shares, dim=1) if shares else None
    return Inspection(
        checkpoint=manifest.name,
        task=task,
        context_tokens=context_tokens,
        samples=samples,
        stated=dict(stated),
        num_values=num_values / samples,
        pointed_by_layer=(
            None if known_gist is None else tuple(known_gist.nanmean(dim=1).tolist())
        ),
        pointed_blindly=None if known_gist is None else float(torch.cat(even).nanmean()),
    )


def what_is_stated(said: str, values: Sequence[str]) -> Stated:
    """Whose value an answer is.

    Args:
        said: The answer, without white space around it.
        values: Of the document, the one asked for first.
    """
    if said == values[0]:
        return "right"
    if said in values:
        return "another"
    places = [{value[place : place + 1] for value in values} for place in range(len(said))]
    whole = len(said) == len(values[0])
    if whole and all(character in places[n] for n, character in enumerate(said)):
        return "mixed"
    return "neither"


def _values(base: BaseModel, example: Example) -> list[str]:
    """Values of a document: answers of those turns that one needle answers."""
    own, *others = example.turns
    stated = [own, *(turn for turn in others if turn.needle is not None)]
    return [base.tokenizer.decode(turn.answer).strip() for turn in stated]


def _answers(trained: GistModel, base: BaseModel, batch: Sequence[Example]) -> list[str]:
    read = read_contexts(
        trained.model,
        [example.context for example in batch],
        gist_ids=trained.gist_ids,
        segmented=trained.manifest.gist_view == "segments",
    )
    decode = base.tokenizer.decode
    answers = answer(
        trained.model,
        read,
        [example.turns[0].question for example in batch],
        max_new_tokens=MAX_NEW_TOKENS,
        is_done=lambda tokens: "\n" in decode(tokens[-1:]),
        num_text_tokens=trained.gist_ids[0],
    )
    return [decode(tokens).split("\n")[0].strip() for tokens in answers.tokens]


@torch.inference_mode()
def _pointed(trained: GistModel, batch: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares ``(layers, rows)``, and those of even attention ``(rows,)``; NaN where unknown."""
    device = next(trained.model.parameters()).device
    rows = {name: part.to(device) for name, part in collate(batch, trained.gist_ids).items()}
    pointing = Pointing(rows)
    layout = layout_of(rows, len(trained.gist_ids), segmented=True)
    apart = trained.manifest.answer_with != "adapter"
    answer_logits(trained.model, rows, layout, answers_only=True, watch=pointing, apart=apart)
    holders = rows["holders"].float().mean(dim=1)
    return pointing.by_layer.cpu(), torch.where(holders > 0, holders, torch.nan).cpu()
