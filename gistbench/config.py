"""What a user can set: typed, validated, and free of torch; `gistbench.config_files` reads it."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

Device = Literal["auto", "cpu", "cuda"]
DType = Literal["auto", "float32", "bfloat16", "float16"]
Quantization = Literal["none", "nf4"]
Decoding = Literal["eager", "static", "compiled"]
"""The loop that answers, in every arm alike: launched step by step; captured once and replayed; or
its kernels fused before that."""

Weights = Literal["real", "random"]
"""Random weights are for memory and speed alone: nothing that they say is measured."""

Objective = Literal["gist", "full"]
"""What the question sees in training: the gist tokens alone, or the whole context."""

GistView = Literal["context", "segments"]
"""What each gist token reads: the whole context, or one of as many equal parts as there are."""

AnswerWith = Literal["adapter", "own", "base"]
"""What answers from gists: the weights that wrote them, others beside those, or the base's own."""


class Config(BaseModel):
    """Base of all configurations: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# -------------------------------------------------------------------------------------- training


class BaseConfig(Config):
    """The base model. Weights stay frozen unless `AdapterConfig` says otherwise."""

    name: str = Field("smollm2-135m", description="catalogue name, hub name, folder or GGUF file")
    revision: str | None = Field(None, description="of a hub model")
    quantization: Quantization = Field("none", description="of the frozen weights")
    dtype: Literal["float32", "bfloat16"] = Field("bfloat16", description="of the computation")
    trust_remote_code: bool = Field(False, description="run code that a model brings")


class AdapterConfig(Config):
    """What is trained: LoRA (Hu et al., 2021, arXiv 2106.09685) and the gist embeddings."""

    num_gists: int = Field(
        10, ge=1, le=4096, description="gist tokens added to the vocabulary; none by objective full"
    )
    gist_view: GistView = Field(
        "context", description="what each gist reads: all of the context, or its part of it"
    )
    answer_with: AnswerWith = Field(
        "adapter",
        description="weights that answer: those that read; by own a LoRA of the same size of their "
        "own; by base none, the adapter writes the gists alone",
    )
    lora_rank: int = Field(16, ge=1, description="r, of what reads and of what answers")
    lora_alpha: int = Field(32, ge=1, description="scale: alpha / r")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="on the input of LoRA")
    target_modules: tuple[str, ...] | None = Field(
        None, description="linear layers that get LoRA; None: those of the attention"
    )
    start_from: str | None = Field(
        None, description="checkpoint whose weights training starts from; None: anew"
    )
    modules_to_save: tuple[str, ...] = Field(
        (), description="modules trained and saved whole; empty: only the gist rows are trained"
    )


class DataConfig(Config):
    """What it is trained on. Keys, haystacks and wordings are those the tasks never test."""

    tasks: tuple[str, ...] = Field(
        ("niah_passkey",), max_length=64, description="whose training split is used"
    )
    first_tasks: tuple[str, ...] = Field(
        (), description="of `tasks`, those that are trained alone until mastered; empty: none"
    )
    context_tokens: int = Field(4925, ge=32, description="of the last stage and of evaluation")
    curriculum: tuple[int, ...] = Field(
        (), description="shorter context lengths first; each stage ends at `advance_accuracy`"
    )
    advance_accuracy: float = Field(
        0.9,
        gt=0,
        le=1,
        description="running share of exact answers; with `focus` the mean of the tasks' shares",
    )
    max_stage_steps: tuple[int, ...] = Field(
        (),
        description="a stage ends after so many steps even if not mastered: one number for each, "
        "the last for all that follow; empty: never",
    )
    least_accuracy: float = Field(
        0.0,
        ge=0,
        le=1,
        description="running share of exact answers below which a stage goes on even then",
    )
    replay: float = Field(0.0, ge=0, lt=1, description="share of steps at an earlier length")
    length_jitter: float = Field(0.0, ge=0, lt=1, description="lengths vary below by this share")
    position_span: int | None = Field(
        None,
        ge=1,
        description="positions that contexts are spread over, by a gap of drawn length behind a "
        "drawn sentence, once all tasks are trained; None: no gap",
    )
    focus: float = Field(
        0.0, ge=0, lt=1, description="share of rows divided among tasks by their wrong answers"
    )
    num_samples: int | None = Field(
        None, ge=1, description="size of a fixed training set; None: every sample is fresh"
    )
    questions_per_context: int = Field(
        1, ge=1, description="asked of one reading at most, where a task's documents answer several"
    )
    max_length: int | None = Field(
        None, ge=1, description="refuse, before step 1, sequences longer than this many tokens"
    )
    num_workers: int = Field(2, ge=0, description="processes that prepare samples")

    @field_validator("max_stage_steps", mode="before")
    @classmethod
    def _one_for_all(cls, given: Any) -> Any:
        return (given,) if isinstance(given, int) else given

    @field_validator("max_stage_steps")
    @classmethod
    def _each_takes_a_step(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        if any(steps < 1 for steps in given):
            raise ValueError("a stage takes 1 step at least; leave it out to set no bound")
        return given


class TrainingConfig(Config):
    """How it is trained; names and meanings are those of transformers.TrainingArguments."""

    max_steps: int = Field(1000, ge=1, description="optimiser steps")
    per_device_train_batch_size: int = Field(
        8, ge=1, description="samples at `context_tokens`; processes that train together share them"
    )
    fill_batches: bool = Field(
        True, description="shorter contexts come in larger batches of about as many tokens"
    )
    max_batch_size: int = Field(128, ge=1, description="bound on filled batches")
    gradient_accumulation_steps: int = Field(1, ge=1, description="micro-batches per step")
    learning_rate: float = Field(3e-4, gt=0, description="peak")
    pointer_weight: float = Field(
        0.0, ge=0, description="of the loss on where questions look; needs gist_view segments"
    )
    pointer_layers: tuple[int, ...] = Field(
        (), description="layers whose attention the pointer's loss counts, from 0; empty: all"
    )
    keep_weight: float = Field(
        0.0, ge=0, description="of the loss on what the adapter changes in ordinary text; 0: off"
    )
    keep_from_tokens: int = Field(
        0,
        ge=0,
        description="stage of all tasks, by its length, from which on `keep_weight` counts",
    )
    keep_rise_steps: int = Field(
        0, ge=0, description="steps in which `keep_weight` rises to its value once it counts"
    )
    lr_scheduler_type: str = Field("cosine_with_min_lr", description="as transformers names it")
    schedule_steps: int | None = Field(
        None, ge=1, description="length of the learning-rate schedule; None: `max_steps`"
    )
    lr_scheduler_kwargs: dict[str, float] = Field(
        default_factory=lambda: {"min_lr_rate": 0.1}, description="for the scheduler"
    )
    warmup_steps: int = Field(50, ge=0, description="linear warm-up")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    optim: str = Field("adamw_torch_fused", description="optimiser, as transformers names it")
    lora_plus_ratio: float = Field(
        1.0, ge=1, description="rate of LoRA's B matrices over that of all else (LoRA+); 1: alike"
    )
    gradient_checkpointing: bool = Field(False, description="recompute activations backwards")
    shard_base: bool = Field(
        False, description="spread the frozen base model's layers over the GPUs of all processes"
    )
    answer_logits_only: bool = Field(True, description="compute logits at the answer alone")
    use_liger_kernel: bool | None = Field(
        None,
        description="norms, rotary phases and activations by liger-kernel's fused kernels; "
        "None: on a GPU, where it is installed",
    )
    logging_steps: int = Field(10, ge=1, description="steps between rows of the log")
    save_steps: int = Field(100, ge=1, description="steps between checkpoints")
    save_total_limit: int | None = Field(
        2, ge=2, description="checkpoints kept; None: all; one alone could be lost by a kill"
    )
    seed: int = Field(0, description="of samples, gist rows and LoRA")
    report_to: tuple[str, ...] = Field((), description="trackers, as transformers names them")


class TrainConfig(Config):
    """Everything that determines a training run."""

    name: str = Field("gist", description="of the checkpoint")
    description: str = Field("", description="one line for the training log")
    objective: Objective = Field(
        "gist", description="full: the question sees the whole context, and no gists are trained"
    )
    weights: Weights = Field(
        "real", description="random: drawn on the device; for speed, nothing is learned"
    )
    max_positions: int | None = Field(
        None, ge=1, description="with random weights: positions that the model is given"
    )
    base: BaseConfig = BaseConfig()
    adapter: AdapterConfig = AdapterConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _positions_are_those_of_the_weights(self) -> Self:
        if self.max_positions is not None and self.weights == "real":
            raise ValueError("max_positions lengthens random weights alone; add --weights random")
        return self

    @property
    def num_gists(self) -> int:
        """Gist tokens that this run trains: none where the question sees the whole context.

        `AdapterConfig.num_gists` is left as it is there, so that the two objectives can share all
        other settings.
        """
        return self.adapter.num_gists if self.objective == "gist" else 0


# ------------------------------------------------------------------------------------ evaluation


class RunConfig(Config):
    """Everything that determines a run."""

    models: tuple[str, ...] = Field(
        ("gist", "full"), description="arms, separated by commas; controls are added"
    )
    checkpoint: str | None = Field(None, description="gist checkpoint: shipped name or folder")
    tuned_checkpoint: str | None = Field(
        None, description="of the arm full-tuned, trained with objective full: name or folder"
    )
    base: str | None = Field(None, description="default: the checkpoint's base model")
    revision: str | None = Field(None, description="of a hub model")
    tasks: tuple[str, ...] = Field(("niah_passkey",), description="separated by commas")
    context_tokens: int = Field(
        4925, ge=32, description="exact length of every context, in the model's tokens"
    )
    haystack: str | None = Field(
        None, description="text file or folder of .txt and .md whose prose hides the needles"
    )
    data_file: str | None = Field(
        None, description="JSON lines of context, question and answer: the task own_jsonl"
    )
    lengths: tuple[int | str, ...] = Field(
        (), description="further context lengths, separated by commas; none decides a verdict"
    )
    samples: int | None = Field(None, ge=1, description="default: 200, or what the time allows")
    time_budget_seconds: float | None = Field(
        None, gt=0, description="choose the number of samples from the measured rate"
    )
    seed: int = Field(0, description="of the samples")
    split: Literal["test", "validation"] = Field(
        "test", description="validation is for choosing between recipes; only test is judged"
    )
    device: Device = Field("auto", description="where the model runs")
    dtype: DType = Field("auto", description="of weights and cache; auto is bfloat16")
    quantization: Quantization = Field("none", description="of the weights, in every arm alike")
    batch_size: int = Field(1, ge=1, description="samples answered together")
    chunk_tokens: int | None = Field(
        None, ge=1, description="read whole contexts so many tokens at a time: less memory"
    )
    decoding: Decoding = Field(
        "eager", description="the loop of every arm; static: CUDA graphs; compiled: fused ones"
    )
    contexts_held: int = Field(32, ge=1, description="contexts of the memory and speed verdicts")
    parallel_arms: int = Field(
        1, ge=1, description="arms that answer at once; above 1, their times are not measured"
    )
    processes: int = Field(
        1, ge=1, description="processes that share each arm's samples, each on a GPU of its own"
    )
    timing_rounds: int = Field(3, ge=0, description="alternating rounds of the speed measurement")
    allow_other_precision: bool = Field(
        False, description="accept weights other than those the checkpoint was trained on"
    )
    trust_remote_code: bool = Field(False, description="run code that a model brings")

    @field_validator("lengths", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> tuple[int, ...]:
        """Whole numbers, however a command line or a file has separated them."""
        parts = value if isinstance(value, (list, tuple)) else (value,)
        words = [word.strip() for part in parts for word in str(part).split(",")]
        if not all(word.isdecimal() for word in words):
            raise ValueError("lengths are whole numbers of tokens, separated by commas")
        return tuple(int(word) for word in words)

    @property
    def all_lengths(self) -> tuple[int, ...]:
        """Every context length of the run, the one that criteria are judged at first."""
        return (self.context_tokens, *(int(length) for length in self.lengths))
