"""What a run leaves behind: frozen, versioned, typed records; `gistbench.storage` has their files.

Everything the report layer knows comes from here, so a scorecard can be rendered on a machine that
has neither torch nor the model. Sizes are integer bytes, times are seconds, lengths are tokens of
the evaluated model. A number that was not measured is a `NotMeasured` with its reason: it is never
zero, never passes a criterion, and cannot be added up by accident.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

Phase = Literal["load", "compress", "steady", "decode", "train"]
"""What a process does: load weights, read contexts, hold their caches, answer; or train."""


Stated = Literal["right", "another", "mixed", "neither"]
"""Whose value an answer is, where a document states several."""


class Record(BaseModel):
    """Base of all records: immutable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class NotMeasured(Record):
    """The absence of a number, with the reason a person needs."""

    not_measured: str


Quantity = float | NotMeasured
Count = int | NotMeasured


# --------------------------------------------------------------------------------------- samples


class Timing(Record):
    """Seconds of one batch, synchronised with the device, after a warm-up.

    Attributes:
        batch_size: Samples that shared the batch; divide by it for a per-sample share.
        compress_seconds: Reading the context into the cache this arm keeps (its prefill). Absent
            where the arm reads no context or reuses a cache.
        first_token_seconds: From the question to the first answer token.
        decode_seconds: The remaining answer tokens.
        decode_steps: Forward passes in `decode_seconds`.
    """

    batch_size: int
    compress_seconds: float | None = None
    first_token_seconds: float
    decode_seconds: float
    decode_steps: int


class SampleRecord(Record):
    """One sample answered by one arm.

    Attributes:
        sample_id: Stable name, the same in every arm and every run of that task, length and seed.
        prompt_sha256: Hash of the UTF-8 text of context + question; pairs samples across arms.
        context_tokens: Length of the original context in the evaluated model's tokens.
        question_tokens: Length of the question part.
        cache_tokens: Key/value slots held per layer after the context was read, before the
            question: `num_gists` for a gist arm, `context_tokens` for full context, 0 for none.
        cache_bytes: Exact bytes of those keys and values, this sample's share of the batch.
        num_gists: Gist tokens of the arm; None for an arm without gists.
        depth: Requested needle depth, 0 (start) to 1 (end).
        needle_depth: Where the needle really starts, as a share of the context's tokens.
        excerpt: Text around the needle; `excerpt_needle` is the needle within it.
        output: The raw generated text.
        output_tokens: Tokens generated, the stop included.
        timing: Of the batch that this sample was answered in; not measured where arms ran at once.
        scores: exact_match (the score), contains, digit_accuracy and what else the task counts:
            each 0 to 1.
        donor_sample_id: For the swapped control, the sample whose gists were used.
        entropy_bits: Bits that the answer holds for who knows the task but not the document.
        question: Text of the question; None in older runs.
        nominal_tokens: Length that the run asked of this sample's task, its `TaskRecord`'s
            `context_tokens`; None in runs of one length.
    """

    schema_version: Literal[1] = 1
    arm: str
    task: str
    sample_id: str
    index: int
    seed: int
    prompt_sha256: str
    context_tokens: int
    question_tokens: int
    cache_tokens: int
    cache_bytes: int
    num_gists: int | None = None
    depth: float | None = None
    needle_depth: float | None = None
    excerpt: str = ""
    excerpt_needle: str = ""
    expected: str
    output: str
    output_tokens: int
    scores: dict[str, float]
    timing: Timing | NotMeasured
    donor_sample_id: str | None = None
    entropy_bits: float | None = None
    nominal_tokens: int | None = None
    question: str | None = None


# ---------------------------------------------------------------------------------------- memory


class MemoryRecord(Record):
    """One tick of the sampler in one arm's process.

    NVML's device figure holds the CUDA context and the caching allocator, torch's allocated figure
    holds neither: they are kept apart and never added. None means that this source does not exist
    here (for instance per-process memory inside a container).
    """

    schema_version: Literal[1] = 1
    arm: str
    phase: Phase
    seconds: float = Field(description="since the arm's process started")
    device_used_bytes: int | None = None
    process_used_bytes: int | None = None
    torch_allocated_bytes: int | None = None
    torch_reserved_bytes: int | None = None
    resident_bytes: int | None = Field(default=None, description="host memory of the process (RSS)")


class PhaseRecord(Record):
    """Peaks of one phase of one arm."""

    phase: Phase
    seconds: float
    torch_allocated_peak_bytes: Count
    torch_reserved_peak_bytes: Count
    device_used_peak_bytes: Count
    process_used_peak_bytes: Count
    resident_peak_bytes: Count


# ------------------------------------------------------------------------------------------- run


class SteadyState(Record):
    """Memory while contexts are held and nothing runs: the figure that the memory verdict uses.

    Attributes:
        contexts_held: Contexts whose caches were alive when the memory was read.
        context_tokens: Length of each.
        cache_bytes: Exact key/value bytes of all of them.
        torch_allocated_bytes: Weights + caches (+ nothing else: no activations are alive).
    """

    contexts_held: int
    context_tokens: int
    cache_bytes: int
    torch_allocated_bytes: int
    torch_reserved_bytes: int
    device_used_bytes: Count


class ThroughputRound(Record):
    """Decoding speed of one arm in one timing round; rounds of the arms alternate.

    Attributes:
        round_index: Rounds with the same index ran directly after each other and form a pair.
        contexts: Contexts answered at once.
        decode_steps: Timed decode steps, each producing one token per context.
        seconds: Time of those steps.
    """

    round_index: int
    contexts: int
    context_tokens: int
    decode_steps: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens per second over all contexts."""
        return self.contexts * self.decode_steps / self.seconds


class ArmRecord(Record):
    """One arm as a whole.

    Attributes:
        weights: "base" or "base+adapter".
        trained_on: Task families in the training data of these weights; empty for a base model.
        answered_by_base: The adapter wrote gists alone; the base model's own weights answered.
        complete: False while samples are missing (a killed run).
        budget_tokens: Context tokens that the arm may keep, where its name gives a budget.
        sees_question: Whether it knows the question before it reads, as no compressor does.
        packages: Versions in the environment of its own that it ran in; empty if it had none.
    """

    name: str
    description: str
    weights: Literal["base", "base+adapter"]
    trained_on: tuple[str, ...] = ()
    answered_by_base: bool = False
    complete: bool
    num_samples: int
    phases: tuple[PhaseRecord, ...] = ()
    steady_one: SteadyState | NotMeasured
    steady_many: SteadyState | NotMeasured
    throughput_rounds: tuple[ThroughputRound, ...] | NotMeasured
    weights_bytes: int
    warnings: tuple[str, ...] = ()
    budget_tokens: int | None = None
    sees_question: bool = False
    packages: dict[str, str] = Field(default_factory=dict)


class BaseModelRecord(Record):
    """The model under test.

    Attributes:
        fingerprint: sha256 over the weight files.
        weights_note: What a reader must know of the weights, for instance that they were 4-bit.
        key_value_bytes_per_token: Over all layers, at `dtype`.
    """

    name: str
    source: str
    model_type: str
    fingerprint: str
    weights_note: str = ""
    dtype: str
    quantization: Literal["none", "nf4"]
    num_parameters: int
    num_layers: int
    max_positions: int
    key_value_bytes_per_token: int


class CheckpointRecord(Record):
    """A checkpoint of a run; `num_gists` is 0 where it was trained with the whole context."""

    name: str
    sha256: str
    num_gists: int
    trained_parameters: int
    size_bytes: int
    training_summary: str
    trained_on: tuple[str, ...]
    max_trained_context_tokens: int


class TaskRecord(Record):
    """One task as it ran."""

    name: str
    version: str
    language: str
    context_tokens: int
    num_samples: int
    seed: int
    split: str = "test"
    chance_floor: float
    control_floor: float | None = Field(
        None,
        description="chance floor where the document states an answer, if it does not always; "
        "controls are judged on these samples alone",
    )
    chance_floor_declared: bool = True
    context_tokens_range: tuple[int, int] | None = Field(
        None,
        description="shortest and longest context, where they are not exactly `context_tokens`; "
        "lm-eval's own tasks take that as a bound on prompt and answer together",
    )
    exact_match_means: str = Field("", description="where it is not that output and answer equal")
    generation: dict[str, Any]
    samples_sha256: str = Field(description="hash of all prompt hashes in order")


class Provenance(Record):
    """Where and with what the run happened."""

    gistbench_version: str
    git_commit: str | None
    git_dirty: bool | None
    python: str
    platform: str
    packages: dict[str, str]
    device: str
    device_name: str
    num_cpu_cores: int
    driver_version: str | None = None
    cuda_version: str | None = None
    device_total_bytes: int | None = None


class NotApplicable(Record):
    """An arm that cannot take part at one length: neither a failure nor a zero.

    Attributes:
        context_tokens: Length of the contexts.
        reason: What stands against it, as a sentence without its full stop.
    """

    arm: str
    context_tokens: int
    reason: str


class PartRecord(Record):
    """A run that a merged run was made of."""

    created: str
    command: str
    git_commit: str | None
    device_name: str
    arms: tuple[str, ...]
    tasks: tuple[str, ...]
    context_tokens: int
    samples_sha256: str = Field(description="of its samples.jsonl")


class RunRecord(Record):
    """run.json: everything but the samples and the memory ticks.

    Attributes:
        checkpoint: The gist checkpoint.
        tuned_checkpoint: The one of the arm full-tuned. Older runs had no such arm.
        tasks: One for each task and length. Criteria are judged at the length of the first.
        not_applicable: Arms that cannot take part at some length.
        parts: What a merged run was made of; empty for a run of its own.
    """

    schema_version: Literal[1] = 1
    created: str = Field(description="UTC, ISO 8601")
    command: str = Field(description="a command line that reproduces the run")
    settings: dict[str, Any] = Field(description="the whole RunConfig")
    provenance: Provenance
    base: BaseModelRecord
    checkpoint: CheckpointRecord | None = None
    tuned_checkpoint: CheckpointRecord | None = None
    tasks: tuple[TaskRecord, ...]
    arms: tuple[ArmRecord, ...]
    not_applicable: tuple[NotApplicable, ...] = ()
    parts: tuple[PartRecord, ...] = ()
    notes: tuple[str, ...] = ()
