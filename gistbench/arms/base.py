"""What an arm is: a way to turn a context into the cache that questions are answered from.

Arms differ in the cache they leave, and in nothing else: weights apart where an arm's description
says so, they share model, precision, prompts, samples and the decoding loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from gistbench.arms.names import ARM_NAMES, ArmName
from gistbench.config import Objective
from gistbench.core.cache import ContextCache
from gistbench.models.gist_file import GistStore
from gistbench.models.prompts import PromptTokens


@dataclass(frozen=True, slots=True)
class Prompt:
    """One sample as an arm sees it.

    Attributes:
        sample_id: Stable name of the sample.
        sha256: Hash of the prompt's text.
        answer: Expected answer; arms must not read it, it only picks donors.
        tokens: Context and question.
        holds_answer: Whether the context states what is asked for.
        donor: For the swapped control: a sample with another answer.
    """

    sample_id: str
    sha256: str
    answer: str
    tokens: PromptTokens
    holds_answer: bool = True
    donor: Prompt | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """What arms read contexts with.

    Attributes:
        model: Causal language model with the gist attention.
        gist_ids: Ids of the gist tokens; empty without a checkpoint.
        store: Compressed caches shared between the gist arm and its swapped control.
    """

    model: torch.nn.Module
    gist_ids: tuple[int, ...]
    store: GistStore | None = None


@dataclass(frozen=True)
class Arm(ABC):
    """One way to answer from a context.

    Attributes:
        name: As in ``--models``; what people need to know of it is in `gistbench.arms.names`.
        uses_checkpoint: The objective of the checkpoint whose weights it runs on, where the run
            has such a one; None for base weights.
        reads_context: Whether reading costs time in this arm.
    """

    name: ClassVar[str]
    uses_checkpoint: ClassVar[Objective | None] = None
    reads_context: ClassVar[bool] = True

    @property
    def about(self) -> ArmName:
        """What a command line says of this arm."""
        return ARM_NAMES[self.name]

    @abstractmethod
    def read(self, reader: Reader, prompts: Sequence[Prompt]) -> ContextCache:
        """Turn the prompts' contexts into one batch of caches.

        Args:
            reader: Model and gist tokens.
            prompts: One per row; their questions must not influence the result.
        """

    def share(self, reader: Reader, prompts: Sequence[Prompt], cache: ContextCache) -> None:
        """Leave what other arms of the run reuse. Not part of any measured time."""
        return None
