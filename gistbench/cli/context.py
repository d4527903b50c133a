"""Commands that compress a text into a file and answer questions from such files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from gistbench.cli.app import app, device_of, quiet
from gistbench.config import Device, DType, Quantization
from gistbench.errors import UsageError
from gistbench.metrics import format_bytes, format_ratio, format_seconds
from gistbench.models.manifest import DEFAULT_CHECKPOINT


@app.command
def compress(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],  # a hyphen is standard input
    /,
    *,
    output: Path,
    checkpoint: str = DEFAULT_CHECKPOINT,
    base: str | None = None,
    revision: str | None = None,
    device: Device = "auto",
    dtype: DType = "auto",
    quantization: Quantization = "none",
    chunk_tokens: int | None = None,
    segment_tokens: int | None = None,
    allow_other_precision: bool = False,
    trust_remote_code: bool = False,
    force: bool = False,
) -> None:
    """Read a text once and write it into gist tokens, in a file to `gistbench ask` later.

    Args:
        file: A UTF-8 text file; - reads standard input.
        output: The file to write, for instance NAME.gist.safetensors.
        checkpoint: Gist checkpoint: shipped name or folder.
        base: Base model (default: the checkpoint's).
        revision: Of a hub model.
        device: Where the model runs.
        dtype: Of weights and cache; auto is bfloat16.
        quantization: Of the weights.
        chunk_tokens: Read so many tokens at a time: less memory, the same gists up to rounding.
        segment_tokens: Write gists for every so many tokens and drop these before going on:
            memory does not grow with the text; no shipped checkpoint was trained for it.
        allow_other_precision: Accept weights other than those the checkpoint was trained on.
        trust_remote_code: Run code that a model brings.
        force: Replace the output if it exists.
    """
    from gistbench.reuse.text import read_text, require_free

    for flag, value in (("--chunk-tokens", chunk_tokens), ("--segment-tokens", segment_tokens)):
        if value is not None and value < 1:
            raise UsageError(f"{flag} {value} reads nothing; pass 1 or more, for instance 4096")
    text = read_text(file)
    if file != "-" and output.exists() and output.samefile(file):
        raise UsageError(f"--output {output} is the text itself; name another file")
    require_free(output, force=force)
    chosen = device_of(device)
    quiet()
    from gistbench.reuse.compressing import compress as compress_text
    from gistbench.reuse.compressing import write
    from gistbench.reuse.model import load_compressor

    compressor = load_compressor(
        checkpoint,
        device=chosen,
        base=base,
        revision=revision,
        dtype=dtype,
        quantization=quantization,
        allow_other_precision=allow_other_precision,
        trust_remote_code=trust_remote_code,
    )
    done = compress_text(compressor, text, chunk_tokens=chunk_tokens, segment_tokens=segment_tokens)
    write(done, output, force=force)
    if done.origin.segment_tokens is not None:
        _say(
            f"note: read in segments of up to {done.origin.segment_tokens:,} tokens, which "
            f"{done.origin.checkpoint} was not trained for; what its answers are worth was not "
            "measured"
        )
    trained = compressor.trained.manifest.max_trained_context_tokens
    if done.origin.context_tokens > trained:
        _say(
            f"note: {done.origin.context_tokens:,} tokens are more than the {trained:,} that "
            f"{done.origin.checkpoint} was trained on; it was never taught to keep what such a "
            "text says"
        )
    said = [
        f"{done.origin.context_tokens:,} tokens to {done.cache.num_slots:,}",
        format_ratio(done.compression_ratio),
        f"{format_bytes(done.cache.num_bytes)} of keys and values",
        format_seconds(done.cost.seconds),
    ]
    peak, needed = done.cost.peak_bytes, done.cost.needed_bytes
    if peak is not None and needed is not None:
        share = format_ratio(peak / needed)
        said.append(f"peak {format_bytes(peak)} allocated, {share} of weights, keys and values")
    _say(f"{output}: {', '.join(said)}")


@app.command
def ask(
    *words: str,
    question: Annotated[list[str] | None, Parameter(negative=())] = None,
    max_new_tokens: int = 64,
    checkpoint: str | None = None,
    base: str | None = None,
    revision: str | None = None,
    device: Device = "auto",
    trust_remote_code: bool = False,
) -> None:
    """Answer from compressed texts: gistbench ask FILE "question".

    The answer alone goes to standard output. Several files or questions are answered in one
    batch, a line each, which then begins with the file and the question that it belongs to.

    Args:
        words: Files that `gistbench compress` wrote; the last word is the question, unless
            --question gives it.
        question: Asked of every file; may be repeated.
        max_new_tokens: Of an answer, at most.
        checkpoint: Folder of the checkpoint, where the files name one that does not ship.
        base: Base model (default: the one that the files name).
        revision: Of a hub model.
        device: Where the model runs.
        trust_remote_code: Run code that a model brings.
    """
    files, questions = _files_and_questions(words, question)
    if max_new_tokens < 1:
        raise UsageError(f"--max-new-tokens {max_new_tokens} answers nothing; pass 1 or more")
    chosen = device_of(device)
    quiet()
    from gistbench.reuse.asking import ask as ask_contexts
    from gistbench.reuse.asking import read_saved
    from gistbench.reuse.model import load_compressor_of

    contexts = [read_saved(file) for file in files]
    compressor = load_compressor_of(
        [(saved.path, saved.origin) for saved in contexts],
        device=chosen,
        checkpoint=checkpoint,
        base=base,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    answered = ask_contexts(compressor, contexts, questions, max_new_tokens=max_new_tokens)
    for reply in answered.replies:
        columns = [str(reply.path)] if len(files) > 1 else []
        columns += [reply.question] if len(questions) > 1 else []
        print("\t".join([*(" ".join(column.split()) for column in columns), reply.text]))
    for saved in contexts:
        _say(
            f"{saved.path}: {saved.origin.context_tokens:,} tokens in {saved.cache.num_slots:,}, "
            f"{format_ratio(saved.origin.context_tokens / saved.cache.num_slots)}, "
            f"{format_bytes(saved.cache.num_bytes)} of keys and values"
        )
    num_tokens = sum(reply.num_tokens for reply in answered.replies)
    _say(f"{num_tokens:,} tokens answered in {format_seconds(answered.seconds)}")


def _files_and_questions(
    words: tuple[str, ...], question: list[str] | None
) -> tuple[list[Path], list[str]]:
    """Which words are files: all of them, or with no --question all but the last."""
    if question:
        files, questions = words, question
    elif not words or _is_file(words[-1]):
        raise UsageError('no question; pass it last, in quotes: gistbench ask FILE "question"')
    else:
        files, questions = words[:-1], [words[-1]]
    if not files:
        raise UsageError(
            "no compressed text to ask; name a file that `gistbench compress` wrote before the "
            "question"
        )
    return [Path(file) for file in files], list(questions)


def _is_file(word: str) -> bool:
    # Not Path.is_file, to which a long question is a name too long.
    return word.endswith(".safetensors") or os.path.isfile(word)


def _say(line: str) -> None:
    Console(stderr=True).print(line, highlight=False, markup=False, soft_wrap=True)
