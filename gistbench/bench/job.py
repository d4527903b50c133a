"""What a worker process is asked to do, and what it says while doing it. Imports no torch."""

from __future__ import annotations

from typing import Literal

from gistbench.records import (
    ArmRecord,
    BaseModelRecord,
    NotMeasured,
    Provenance,
    Record,
    SteadyState,
    TaskRecord,
    ThroughputRound,
)

PROBE_FILE = "probe.json"
GO_ON = "go on"
"""What the process that evaluates is told when the others that share its samples have ended."""

Mode = Literal["probe", "prepare", "evaluate", "answer", "timing"]


class Job(Record):
    """One worker's order.

    Attributes:
        mode: "probe": load, say what is here, measure one prefill. "prepare": build the samples
            and leave them to the other processes. "evaluate": answer all samples, then measure
            the steady state. "answer": answer a share of the samples and leave the answers to the
            process that evaluates. "timing": one round of the speed measurement.
        folder: Where the run keeps its work.
        checkpoint: Trained with objective gist.
        tuned_checkpoint: Trained with objective full.
        environment: Whose Python the worker runs in, where that is not the parent's own.
        parallel_arms: Processes that may answer at the same time as this one, itself included.
        round_index: Of a timing round.
        processes: Processes that share the samples of this arm.
        process: Number of this one; 0 is the one that evaluates.
    """

    mode: Mode
    arm: str
    folder: str
    base: str
    revision: str | None
    checkpoint: str | None
    tuned_checkpoint: str | None = None
    tasks: tuple[str, ...]
    context_tokens: int
    haystack: str | None = None
    data_file: str | None = None
    samples: int
    seed: int
    split: Literal["test", "validation"] = "test"
    device: Literal["auto", "cpu", "cuda"]
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    quantization: Literal["none", "nf4"]
    batch_size: int
    chunk_tokens: int | None = None
    decoding: Literal["eager", "static", "compiled"] = "eager"
    contexts_held: int
    allow_other_precision: bool
    trust_remote_code: bool
    keep_gists: bool = False
    environment: Literal["kvpress"] | None = None
    parallel_arms: int = 1
    round_index: int = 0
    processes: int = 1
    process: int = 0


class Probe(Record):
    """What the probe found.

    Attributes:
        folder: Where the base model's weights and tokenizer were found or unpacked.
        tokens_sha256: Hash of the token ids of the first prompt; every arm must see the same.
        shortest_own_tokens: Of the contexts of a user's own questions; None where none are asked.
        num_gpus: That this PyTorch can use.
    """

    base: BaseModelRecord
    provenance: Provenance
    prefill_seconds: float
    folder: str
    tokens_sha256: str
    shortest_own_tokens: int | None = None
    num_gpus: int = 0


class ArmResult(Record):
    """What an evaluation leaves besides samples and memory."""

    arm: ArmRecord
    tasks: tuple[TaskRecord, ...]


class SteadyResult(Record):
    """Memory while contexts are held."""

    one: SteadyState | NotMeasured
    many: SteadyState | NotMeasured


class TimingResult(Record):
    """One round of one arm."""

    outcome: ThroughputRound | NotMeasured


class Event(Record):
    """One line of a worker's standard output."""

    kind: Literal["progress", "status", "error", "done"]
    text: str = ""
    too_long: bool = False
    task: str = ""
    done: int = 0
    total: int = 0
    resumed: bool = False
