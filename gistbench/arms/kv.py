"""Training-free cache compression, as NVIDIA's kvpress does it.

kvpress needs another transformers than gistbench, so these arms run in a process of the environment
`gistbench.environments` finds; the model, its attention function, the prompts and the decoding loop
there are those of every other arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gistbench.arms.base import BudgetArm, Prompt, Reader
from gistbench.arms.names import require_applicable
from gistbench.arms.presses import PRESSES
from gistbench.core.cache import ContextCache, stack
from gistbench.errors import PrerequisiteError, UsageError
from gistbench.models.decode import read_contexts


@dataclass(frozen=True)
class KeyValuePress(BudgetArm):
    """The base model reads all of the context; every layer and key head keeps N slots of its own.

    A press scores and drops slots after the layer has attended to all of them, so nothing that a
    later layer reads is changed. Kept keys stay at their positions and the question stands after
    the whole context, as in `full`; with N equal to the context's length the cache is that of
    `full`. Heads keep different slots, in the order of their scores.

    Attributes:
        press: Name of the compression in `PRESSES`.
    """

    press: str

    family = "kv"

    @property
    def name(self) -> str:
        """As in ``--models``."""
        return f"{self.press}-{self.budget_tokens}"

    def read(self, reader: Reader, prompts: Sequence[Prompt]) -> ContextCache:
        """Read everything, keep what the press chooses.

        Raises:
            UsageError: The budget does not fit the context or the press, or the press does not
                fit the model.
            PrerequisiteError: This Python has no kvpress.
        """
        config: Any = reader.model.config
        contexts = [prompt.tokens.context for prompt in prompts]
        for context in contexts:
            require_applicable(self.about, len(context), config.model_type)
        window = getattr(config, "sliding_window", None)
        # The window is counted in slots back from the question, and slots are missing.
        if window is not None:
            raise UsageError(
                f"arm {self.name} needs a model that attends to its whole context, and this one "
                f"sees {window:,} tokens back; choose another with --base"
            )
        # A press takes padding for text, so that only contexts of one length are read together.
        if len({len(context) for context in contexts}) == 1:
            return self._read(reader.model, contexts)
        return stack([self._read(reader.model, [context]) for context in contexts])

    def _read(self, model: torch.nn.Module, contexts: Sequence[Sequence[int]]) -> ContextCache:
        kvpress = self._kvpress()
        kind = getattr(kvpress, PRESSES[self.press].kind)
        ratio = compression_ratio(self.budget_tokens, len(contexts[0]))
        with kind(compression_ratio=ratio)(model):
            return read_contexts(model, contexts, keep_all=True, num_left=self.budget_tokens)

    def _kvpress(self) -> Any:
        try:
            import kvpress
        except ImportError as error:
            raise PrerequisiteError(
                f"arm {self.name} needs kvpress, which this Python does not have; use `gistbench "
                "run`, which answers in the environment that `make kvpress` builds"
            ) from error
        return kvpress


def compression_ratio(num_kept: int, length: int) -> float:
    """The ratio at which kvpress leaves ``num_kept`` of ``length`` slots, neither more nor less.

    kvpress keeps ``int(length * (1 - ratio))``. Aimed at ``num_kept`` itself, rounding could fall
    to one less; half a slot above it, it cannot.
    """
    return 0.0 if num_kept == length else 1 - (num_kept + 0.5) / length
