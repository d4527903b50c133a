"""The objectives on transformers.Trainer, which keeps everything around them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from safetensors import SafetensorError
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import Trainer

from gistbench.config import Objective
from gistbench.errors import UsageError
from gistbench.models.adapter import load_adapter_weights
from gistbench.training.data import SampleBatches
from gistbench.training.examples import IGNORED
from gistbench.training.keeping import Keeping
from gistbench.training.objective import (
    Batch,
    Pointing,
    answer_logits,
    known_turns,
    layout_of,
)
from gistbench.training.rates import raise_rate_of_b
from gistbench.training.sharding import has_shards, in_parallel
from gistbench.training.tally import Tally


class GistTrainer(Trainer):
    """Trains on contexts read once, and questions that see what is kept of them.

    By objective "gist" the question attends to the gists alone (see `gistbench.core.mask`), so what
    the answer needs must pass through them. By "full" there are no gists and the question attends
    to the whole context, which is plain causal attention; all else is the same code.

    The loss of a step is the cross-entropy of its answers' tokens, averaged over all of them at
    once: how they are split into micro-batches, and these among processes, changes nothing.
    """

    optimizer: torch.optim.Optimizer | None

    def __init__(
        self,
        *,
        batches: SampleBatches,
        num_gists: int,
        answer_logits_only: bool,
        objective: Objective = "gist",
        schedule_steps: int | None = None,
        segmented: bool = False,
        pointer_weight: float = 0.0,
        pointer_layers: Collection[int] = (),
        answers_apart: bool = False,
        keeping: Keeping | None = None,
        lora_plus_ratio: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.schedule_steps = schedule_steps
        self.batches = batches
        self.num_gists = num_gists
        self.objective = objective
        self.segmented = segmented
        self.pointer_weight = pointer_weight
        self.pointer_layers = pointer_layers
        self.answer_logits_only = answer_logits_only
        self.answers_apart = answers_apart
        self.keeping = keeping
        self.lora_plus_ratio = lora_plus_ratio
        # `compute_loss` divides by what is in the whole step; Trainer divides by nothing more.
        self.model_accepts_loss_kwargs = True
        self.tally = Tally(batches.config.data.tasks)
        # What this process counted in each micro-batch of this step, and the length of its stage.
        self._step_counts: list[torch.Tensor] = []
        self._stage_tokens = batches.curriculum.context_tokens
        self._turns_with_known_gist: torch.Tensor | int = 0
        # What ordinary text added to the loss, in each step since the last log.
        self._weighted: list[float] = []

    def get_train_dataloader(self) -> DataLoader[Batch]:
        """Ready batches, starting after the steps already trained; each process makes its own."""
        self.batches.start = self.state.global_step * self.args.gradient_accumulation_steps
        # A generator of its own: a loader that starts draws a seed, and after a resume that shifts
        # the random numbers that dropout is to go on with.
        return DataLoader(self.batches, batch_size=None, num_workers=0, generator=torch.Generator())

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor]:
        """This process's micro-batches of a step, and the answer tokens of all processes' in it."""
        batches = list(islice(epoch_iterator, num_batches))
        tokens = sum(int((batch["labels"] != IGNORED).sum()) for batch in batches)
        known = sum(int(known_turns(batch["holders"]).sum()) for batch in batches)
        counts = torch.tensor([tokens, known], device=device)
        tokens_of_all, self._turns_with_known_gist = self.accelerator.reduce(counts, "sum")
        return batches, tokens_of_all

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimiser that transformers names; by LoRA+ B matrices have a rate of their own.

        Hayou, Ghosh and Yu, 2024, "LoRA+: Efficient Low Rank Adaptation of Large Models" (arXiv
        2402.12354). All else that is trained, gist rows too, has the rate of A.
        """
        is_new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if is_new and self.lora_plus_ratio > 1:
            raise_rate_of_b(optimizer, self.model, self.lora_plus_ratio)
        return optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The learning-rate schedule, which may be longer than the training."""
        steps = self.schedule_steps or num_training_steps
        schedule: torch.optim.lr_scheduler.LRScheduler = super().create_scheduler(steps, optimizer)
        return schedule

    def _wrap_model(
        self, model: torch.nn.Module, training: bool = True, dataloader: Any = None
    ) -> torch.nn.Module:
        """What processes train together; accelerate wraps it, unless it comes wrapped."""
        if not training or isinstance(model, DistributedDataParallel) or not has_shards(model):
            wrapped: torch.nn.Module = super()._wrap_model(model, training, dataloader)
            return wrapped
        unused = bool(self.args.ddp_find_unused_parameters)
        return in_parallel(model, self.accelerator, find_unused_parameters=unused)

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> Any:
        """Autocast around all passes of a loss: what is trained is cast once, not in each of them.

        Their gradients are then added in bf16, to which each of them was rounded.
        """
        return self.accelerator.autocast()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """This process's part of the step's loss, and of further ones weighted: a scalar.

        Launchers average gradients over processes, where the step's loss is the sum of their parts;
        so each part is taken that many times. The mean of what the processes return is the loss.
        """
        assert num_items_in_batch is not None
        labels, processes = inputs["labels"], self.args.world_size
        num_visible = self.num_gists if self.objective == "gist" else None
        layout = layout_of(inputs, num_visible, segmented=self.segmented)
        pointing = Pointing(inputs, self.pointer_layers) if self.pointer_weight else None
        logits = answer_logits(
            model,
            inputs,
            layout,
            answers_only=self.answer_logits_only,
            watch=pointing,
            apart=self.answers_apart,
        )
        summed = F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        loss = summed * processes / num_items_in_batch
        pointed = kept = torch.zeros((), device=loss.device)
        if pointing is not None:
            pointed = pointing.loss() / max(1, self._turns_with_known_gist)
            loss = loss + self.pointer_weight * pointed * processes
        if self._keep_weight and not self._step_counts:  # once a step
            assert self.keeping is not None
            kept = self.keeping.loss(model, self.state.global_step)
            loss = loss + self._keep_weight * kept * processes
        context_tokens = layout.prefix_length - self.num_gists
        others = torch.stack([pointed, kept]).detach()
        self._step_counts.append(
            self.tally.of_micro_batch(logits.detach(), inputs, context_tokens, others)
        )
        return (loss, {"logits": logits}) if return_outputs else loss

    @property
    def _keep_weight(self) -> float:
        """Of ordinary text in this step's loss."""
        return 0.0 if self.keeping is None else self.batches.curriculum.keep_weight

    def end_of_step(self) -> bool:
        """Count the step over all processes, and tell the curriculum of its exact answers.

        Returns:
            Whether the next stage begins: the same in every process.
        """
        counted = self.accelerator.gather(torch.stack(self._step_counts)).cpu()
        self._step_counts.clear()
        counting = (bool(self.pointer_weight), bool(self._keep_weight))
        observed = self.tally.observe(counted, self.batches.share, counting)
        self._weighted.append(self._keep_weight * (self.tally.newest("keep_loss") or 0.0))
        self._stage_tokens = self.batches.curriculum.context_tokens
        return self.batches.curriculum.observe(observed)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what only this trainer knows to a log entry."""
        if "loss" in logs and (counted := self.tally.window()):
            logs |= {"context_tokens": float(self._stage_tokens), **counted}
            if "keep_loss" in counted and self.batches.config.training.keep_rise_steps:
                logs["weighted_keep_loss"] = fmean(self._weighted)
            self._weighted.clear()
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save the adapter alone, at training precision; never the frozen embedding."""
        folder = Path(output_dir or str(self.args.output_dir))
        model = self.accelerator.unwrap_model(self.model)
        assert isinstance(model, PeftModel)
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load what `_save` wrote, and nothing beside it.

        Trainer takes folders inside a checkpoint for further adapters; transformers 5.17 then
        leaves the trained one as it was initialised, and trains on from there without a word.
        """
        folder = Path(resume_from_checkpoint)
        peft_model = self.accelerator.unwrap_model(model or self.model)
        assert isinstance(peft_model, PeftModel)
        try:
            differing = load_adapter_weights(peft_model, folder)
            wrong = f"first difference at {differing}" if differing is not None else None
        except (OSError, SafetensorError) as error:
            wrong = f"its file cannot be read, {str(error).splitlines()[0]}"
        if wrong is not None:
            raise UsageError(
                f"{folder} does not hold this training's adapter ({wrong}); remove that folder to "
                "resume from an earlier one"
            )
