"""One model at one precision, seen by both arms in turn."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from peft.tuners.lora.layer import LoraLayer

from gistbench.config import Quantization
from gistbench.core.cache import ContextCache
from gistbench.core.footprint import Architecture
from gistbench.core.layout import GistLayout
from gistbench.core.operations import TrainingStep
from gistbench.errors import UsageError
from gistbench.measurement import synchronize
from gistbench.models.decode import read_contexts
from gistbench.models.joint import join_projections
from gistbench.models.manifest import find_checkpoint, read_manifest
from gistbench.models.random_weights import random_ids
from gistbench.records import NotMeasured, Quantity
from gistbench.speed.arm_model import ArmModel, load_arm
from gistbench.speed.floors import Floor, countable, floor_seconds
from gistbench.speed.held import HeldBatch, Places, Shape, context_layout, read_into
from gistbench.speed.records import Rates
from gistbench.speed.savings_records import Arm
from gistbench.speed.savings_settings import SavingsConfig
from gistbench.speed.unpacking import unpacked_parameters


@dataclass(frozen=True)
class Subject:
    """A model that reads contexts into gists, or, its adapter off, keeps them whole.

    One copy of the weights serves both arms, so that they can alternate on a card that has no room
    for two. Full context pays for the adapter's bytes, which are recorded, and for nothing else.

    Attributes:
        settings: What is measured.
        quantization: Of the weights.
        loaded: The model with gists.
        rates: Of the device, for floors.
        device: ``"cuda:0"`` or ``"cpu"``.
        context: Token ids that every context has.
    """

    settings: SavingsConfig
    quantization: Quantization
    loaded: ArmModel
    rates: Rates
    device: str
    context: tuple[int, ...]

    @classmethod
    def load(
        cls, settings: SavingsConfig, quantization: Quantization, rates: Rates, device: str
    ) -> Subject:
        """Load the model, and draw the contexts.

        Raises:
            UsageError: It has too few positions, or its checkpoint switches weights by itself.
            GistbenchError: As `load_arm`.
        """
        if settings.checkpoint is not None:
            _require_one_switch(settings.checkpoint)
        loaded = load_arm(settings, "gist", quantization, device)
        longest = settings.context_tokens + len(loaded.gist_ids) + settings.live_tokens + 1
        require_positions(loaded, longest, settings.weights == "random", "--context-tokens")
        join_projections(loaded.model)
        ids = random_ids(settings.context_tokens, loaded.base.num_text_tokens, settings.seed)
        return cls(settings, quantization, loaded, rates, device, tuple(ids))

    @property
    def model(self) -> torch.nn.Module:
        """The model of both arms."""
        return self.loaded.model

    @property
    def adapter_bytes(self) -> int:
        """What only the arm gist needs: LoRA that could not be merged, and the gists' rows."""
        lora = sum(
            weight.numel() * weight.element_size()
            for name, weight in self.model.named_parameters()
            if ".lora_" in name
        )
        model = cast(Any, self.model)
        row = model.get_input_embeddings().weight[0]
        matrices = 1 if self.sizes.tied else 2
        rows = matrices * len(self.loaded.gist_ids)
        return lora + rows * int(row.numel() * row.element_size())

    @property
    def sizes(self) -> Architecture:
        """Of the model that reads."""
        return Architecture.of(cast(Any, self.model).config.to_dict())

    @contextmanager
    def weights_of(self, arm: Arm) -> Iterator[None]:
        """The base model's own weights, for full context."""
        layers = [module for module in self.model.modules() if isinstance(module, LoraLayer)]
        if arm == "gist" or not layers:
            yield
            return
        # Not `disable_adapter`, which would also take the gists' rows out of the embedding.
        for layer in layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in layers:
                layer.enable_adapters(True)

    def gist_ids(self, arm: Arm) -> tuple[int, ...]:
        """Appended to the context."""
        return self.loaded.gist_ids if arm == "gist" else ()

    def slots(self, arm: Arm) -> int:
        """Kept of a context."""
        return len(self.loaded.gist_ids) if arm == "gist" else len(self.context)

    def layout(self, arm: Arm) -> GistLayout:
        """Of one context's read."""
        gists = len(self.gist_ids(arm))
        segmented = self.loaded.segmented and arm == "gist"
        return context_layout(len(self.context), gists, segmented=segmented)

    def shape(self, arm: Arm) -> Shape:
        """Of what one context keeps."""
        return Shape(self.model, self.slots(arm), getattr(torch, self.settings.dtype))

    def read(self, arm: Arm) -> ContextCache:
        """Read the context as a run does."""
        return read_contexts(
            self.model,
            [self.context],
            gist_ids=self.gist_ids(arm),
            keep_all=arm == "full",
            segmented=self.loaded.segmented and arm == "gist",
        )

    def read_into(self, arm: Arm, places: Places) -> None:
        """Read the context to where it is to lie."""
        read_into(self.model, [*self.context, *self.gist_ids(arm)], self.layout(arm), places)

    def batch(self, arm: Arm, rows: int) -> HeldBatch:
        """Buffers for contexts, questions and answers, empty."""
        least = self.slots(arm) + self.settings.live_tokens
        multiple = self.settings.slots_multiple
        return HeldBatch(
            self.model,
            self.shape(arm),
            rows,
            -(-least // multiple) * multiple,
            self.loaded.base.num_text_tokens,
            compiled=self.settings.decoding == "compiled",
        )

    def questions(self, rows: int) -> torch.Tensor:
        """Random ones of one length, ``(rows, question)``."""
        drawn = random_ids(
            rows * self.settings.question_tokens,
            self.loaded.base.num_text_tokens,
            self.settings.seed + 1,
        )
        ids = torch.tensor(drawn, dtype=torch.long, device=self.device)
        return ids.view(rows, self.settings.question_tokens)

    def ask(self, arm: Arm, batch: HeldBatch, ids: torch.Tensor) -> None:
        """Read the questions: in one pass, or as many at a time as have a context's tokens."""
        at_once = max(1, len(self.context) // self.settings.question_tokens)
        batch.ask_loaded(ids, self.layout(arm).at("suffix"), at_once)

    @torch.inference_mode()
    def prepare(self, batch: HeldBatch) -> None:
        """Capture the step, which no time counts."""
        batch.prepare()

    @torch.inference_mode()
    def decode(self, batch: HeldBatch) -> None:
        """The steps behind the first tokens."""
        batch.run(self.settings.new_tokens)

    def seconds(self, work: Callable[[], object]) -> float:
        """Of a piece of work, until the device has finished."""
        synchronize(self.device)
        start = time.perf_counter()
        work()
        synchronize(self.device)
        return time.perf_counter() - start

    # ------------------------------------------------------------------------------------- floors

    @property
    def counted(self) -> Architecture | NotMeasured:
        """The sizes that floors are counted from, or why there are none."""
        return countable(cast(Any, self.model).config, self.settings.longest)

    def weights_floor_bytes(self, contexts: int, arm: Arm) -> Quantity:
        """Weights, and keys and values of so many contexts."""
        if isinstance(self.counted, NotMeasured):
            return self.counted
        dtype = self.settings.dtype
        held = contexts * self.slots(arm) * self.counted.key_value_bytes_per_token(dtype)
        return float(self.counted.weights_bytes(dtype, self.quantization) + held)

    def compress_floor(self, arm: Arm) -> Floor:
        """Of one read."""
        prefix = len(self.context) + len(self.gist_ids(arm))
        step = TrainingStep(1, prefix, self.slots(arm), 0, 0, num_turns=0)
        return self._floor(step, slots=0, passes=1)

    def question_floor(self, arm: Arm, rows: int) -> Floor:
        """Of reading a batch's questions."""
        step = TrainingStep(
            rows, 0, self.slots(arm), self.settings.question_tokens, 1, num_turns=rows
        )
        return self._floor(step, slots=self.slots(arm), passes=1)

    def decode_floor(self, arm: Arm, rows: int) -> Floor:
        """Of a batch's decoding steps."""
        steps = self.settings.new_tokens
        slots = self.slots(arm) + self.settings.question_tokens + (steps + 1) / 2
        step = TrainingStep(rows, 0, int(slots), 1, 1, num_turns=rows)
        return self._floor(step, slots=slots, passes=steps)

    def _floor(self, step: TrainingStep, *, slots: float, passes: int) -> Floor:
        if isinstance(self.counted, NotMeasured):
            return Floor(self.counted)
        unpacked = unpacked_parameters(self.model, step.num_tokens)
        seconds = floor_seconds(
            self.counted,
            step,
            self.rates,
            slots=slots,
            dtype=self.settings.dtype,
            quantization=self.quantization,
            unpacked_parameters=unpacked or 0,
        )
        return Floor(passes * seconds, unpacked)


def _require_one_switch(checkpoint: str) -> None:
    """Refuse a checkpoint whose adapter goes on and off by itself, against `Subject.weights_of`.

    Raises:
        UsageError: It does.
    """
    weights = read_manifest(find_checkpoint(checkpoint)).answer_with
    if weights != "adapter":
        raise UsageError(
            f"{checkpoint} reads and answers by different weights (adapter.answer_with {weights}), "
            "which cannot take turns with full context in one process; name a --checkpoint that "
            "does both with its adapter"
        )


def require_positions(model: ArmModel, longest: int, random: bool, option: str) -> None:
    """Refuse contexts that the model has no positions for.

    Raises:
        UsageError: With the two numbers.
    """
    if longest > model.base.max_positions:
        more = " or pass --max-positions" if random else ""
        raise UsageError(
            f"{longest:,} tokens of context, gists, question and answer exceed the "
            f"{model.base.max_positions:,} positions of {model.base.reference.name}; lower "
            f"{option}{more}"
        )


def let_go(device: str, *batches: HeldBatch) -> None:
    """Free batches, and what nothing refers to any more."""
    for batch in batches:
        batch.close()
    if device.startswith("cuda"):
        gc.collect()
        synchronize(device)
        # Each capture stream has a workspace of its own, which cuBLAS keeps.
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()
