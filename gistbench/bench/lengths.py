"""One run at several context lengths: each by itself in a folder of its own, then merged."""

from __future__ import annotations

from pathlib import Path

from gistbench.bench.merge import joined
from gistbench.bench.run import run
from gistbench.bench.state import Display
from gistbench.config import RunConfig
from gistbench.errors import TooLongError, UsageError
from gistbench.records import RunRecord
from gistbench.storage import RUN_FILE, check_writable, read_json, write_run

LENGTHS_FOLDER = "lengths"


def run_lengths(config: RunConfig, folder: Path, *, display: Display, command: str) -> Path:
    """Evaluate every arm at every length, and write one run's records.

    A length that the model has no positions for is not applicable, and the run says so. Resumes
    like any run, length by length.

    Args:
        config: Its `context_tokens` is the length that criteria are judged at; `lengths` follow.
        folder: The run directory; the runs of single lengths stay in ``lengths/`` below it.
        display: Told of the progress.
        command: The command line, for the record.

    Raises:
        UsageError: As in `run`; or a length is named twice, or is no length of the data.
    """
    lengths = config.all_lengths
    if len(set(lengths)) < len(lengths) or min(lengths) < 32:
        shown = ",".join(str(length) for length in config.lengths)
        raise UsageError(
            f"--lengths {shown} must name lengths of 32 tokens or more, each once and none of them "
            f"the {config.context_tokens} of --context-tokens; mend it"
        )
    if config.data_file is not None:
        raise UsageError(
            "--lengths cannot change the contexts of --data-file; leave one of the two out"
        )
    below = folder / LENGTHS_FOLDER
    if folder.exists() and not below.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} is in use by something else than a run of several lengths; choose another "
            "--output"
        )
    _require_all_kept(lengths, folder)
    check_writable(folder)
    parts, beyond = [], []
    for length in lengths:
        single = config.model_copy(update={"context_tokens": length, "lengths": ()})
        display.say(f"contexts of {length:,} tokens")
        try:
            parts.append(run(single, below / str(length), display=display, command=command))
        except TooLongError as error:
            if length == config.context_tokens:
                raise
            display.say(f"not applicable: {error}")
            beyond.append(length)
    record, samples, memory = joined(parts)
    notes = [
        f"contexts of {length:,} tokens are not applicable: with gists, question and answer they "
        f"exceed the {record.base.max_positions:,} positions of {record.base.name}"
        for length in beyond
    ]
    record = record.model_copy(
        update={
            "command": command,
            "settings": config.model_dump(mode="json"),
            "notes": (*record.notes, *notes),
        }
    )
    write_run(folder, record, samples, memory)
    return folder


def _require_all_kept(lengths: tuple[int, ...], folder: Path) -> None:
    """Refuse to write a finished run anew with lengths missing; more of them are welcome.

    Raises:
        UsageError: Names what would be missing.
    """
    if not (folder / RUN_FILE).is_file():
        return
    before = read_json(folder / RUN_FILE, RunRecord).settings
    known = (before["context_tokens"], *before.get("lengths", ()))
    missing = [f"{length:,}" for length in known if length not in lengths]
    if missing:
        raise UsageError(
            f"{folder} holds a run that has contexts of {', '.join(missing)} tokens too; name them "
            "in --lengths, or choose another --output"
        )
