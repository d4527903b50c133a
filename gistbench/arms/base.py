"""What an arm is: a way to turn a context into the cache that questions are answered from.

Arms differ in the cache they leave, and in nothing else: weights apart where an arm's description
says so, they share model, precision, prompts, samples and the decoding loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from gistbench.arms.names import ArmName, find_arm_name, require_budget
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
        donor: For the swapped control: a sample with another answer.
        holds_answer: Whether the context states what is asked for.
        context_text: The context, where donors are picked by what it states.
        choices: The answers that the question names; empty where it names none.
        counted: Whether it is known what the context states; a user's own data is not.
        values: The parts of an answer that has several.
    """

    sample_id: str
    sha256: str
    answer: str
    tokens: PromptTokens
    donor: Prompt | None = None
    holds_answer: bool = True
    context_text: str = ""
    choices: tuple[str, ...] = ()
    counted: bool = True
    values: tuple[str, ...] = ()

    @property
    def states(self) -> tuple[str, ...]:
        """What a document that is not this prompt's must not hold."""
        return self.values or (self.answer,)


@dataclass(frozen=True, slots=True)
class Reader:
    """What arms read contexts with.

    Attributes:
        model: Causal language model with the gist attention.
        gist_ids: Ids of the gist tokens; empty without a checkpoint.
        segmented: Whether each gist reads its own part of the context, as it was trained to.
        store: Compressed caches shared between the gist arm and its swapped control.
        tokenizer: The model's own; needed by arms that look at the context as text.
        chunk_tokens: Whole contexts are read so many slots at a time; None for one pass.
    """

    model: torch.nn.Module
    gist_ids: tuple[int, ...]
    store: GistStore | None = None
    tokenizer: Any = None
    segmented: bool = False
    chunk_tokens: int | None = None

    def text_start(self, context: Sequence[int]) -> list[int]:
        """The token that the tokenizer puts before every text, if this context begins with one.

        Models that were trained with it answer badly without it, so no arm drops it.
        """
        config: Any = self.model.config
        first = list(context[:1])
        return first if first == [config.bos_token_id] else []


@dataclass(frozen=True)
class Arm(ABC):
    """One way to answer from a context.

    Attributes:
        family: Its name without a budget; what people need to know of it is in
            `gistbench.arms.names`.
        uses_checkpoint: The objective of the checkpoint whose weights it runs on, where the run
            has such a one; None for base weights.
        reads_context: Whether reading costs time in this arm.
        sees_question: Whether it knows the question before it reads. No compressor does: its cache
            must serve every question.
    """

    family: ClassVar[str]
    uses_checkpoint: ClassVar[Objective | None] = None
    reads_context: ClassVar[bool] = True
    sees_question: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """As in ``--models``."""
        return self.family

    @property
    def least_context_tokens(self) -> int:
        """Tokens of the shortest context that it can read."""
        return 1

    @property
    def about(self) -> ArmName:
        """What a command line says of this arm."""
        return find_arm_name(self.name)

    @abstractmethod
    def read(self, reader: Reader, prompts: Sequence[Prompt]) -> ContextCache:
        """Turn the prompts' contexts into one batch of caches.

        Args:
            reader: Model and gist tokens.
            prompts: One per row; their questions must not influence the result, except where
                `sees_question` says so.
        """

    def share(self, reader: Reader, prompts: Sequence[Prompt], cache: ContextCache) -> None:
        """Leave what other arms of the run reuse. Not part of any measured time."""
        return None


@dataclass(frozen=True)
class BudgetArm(Arm):
    """An arm that may keep a fixed number of context tokens, the last part of its name.

    Attributes:
        budget_tokens: Slots that its cache may hold for each context.
    """

    budget_tokens: int

    @property
    def name(self) -> str:
        """As in ``--models``."""
        return f"{self.family}-{self.budget_tokens}"

    @property
    def least_context_tokens(self) -> int:
        """A budget beyond the context is refused."""
        return self.budget_tokens

    def require_budget(self, reader: Reader, prompt: Prompt) -> None:
        """Refuse a budget that this context cannot have.

        Raises:
            UsageError: It is more than the context, or holds nothing but the text's start.
        """
        context = prompt.tokens.context
        least = len(reader.text_start(context)) + 1
        require_budget(self.name, self.budget_tokens, len(context), least)
