"""Where context, gists and question lie in a batch, and what may see what.

Gist tokens as a bottleneck between a prompt and what follows: Mu, Li and Goodman, "Learning to
Compress Prompts with Gist Tokens", 2023 (arXiv 2304.08467).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar, cast

import torch

Stage = Literal["prefix", "chunk", "suffix", "joint"]
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class GistLayout:
    """The spans of a batch: a prefix that is read once, and a suffix that sees only its end.

    Each row is, in slots of the sequence::

        | pad | context ............ | gists | pad | question and answer |
        0     a                      P-V     P     P+b                   P+S

    Both parts are padded on their left, so gists and answers end at the same slot in every row.
    The prefix attends causally to itself. The suffix attends causally to itself and to the last
    ``num_visible`` slots of the prefix: for a gist model these are the gists; for full context,
    the whole prefix; without context, nothing. Nothing attends to padding.

    Rotary positions count real tokens of the row, so a question continues where the gists ended
    however long the context was, and keys keep their phase when the context is dropped.

    What earlier passes left of a context may stand before it as memory::

        | pad | memory | context ............ | gists |

    Everything behind the memory sees it, and goes on at the position after its last slot.

    Attributes:
        prefix_length: P, slots of context and gists with their padding.
        num_visible: V, slots at the prefix's end that the suffix sees and the cache keeps.
        prefix_padding: a, for each row.
        suffix_padding: b, for each row.
        stage: "joint": one forward pass holds prefix and suffix (training). "prefix": the first of
            two passes. "chunk": a part of the first, on a cache of the prefix slots before it.
            "suffix": the second pass, on a cache of exactly the V visible slots followed
            by the suffix tokens already processed.
        segmented: Each visible slot reads its own of V equal parts of the context, and the visible
            slots before it, instead of all of the context. It stands at the position where its
            part ends, so that it is as near to what it reads in a long context as in a short one.
        detach_visible: Cut the gradient at the keys and values that the suffix reads from the
            prefix. Used to prove that no other path exists.
        memory: For each row the rotary positions of its memory; empty without one. A cache that
            was read segment by segment is nothing but memory.
        shared: Of each kind the newest that `share` made; no part of what a layout is.
    """

    prefix_length: int
    num_visible: int
    prefix_padding: tuple[int, ...]
    suffix_padding: tuple[int, ...]
    stage: Stage
    segmented: bool = False
    detach_visible: bool = False
    memory: tuple[tuple[int, ...], ...] = ()
    shared: dict[object, tuple[object, object]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if len(self.prefix_padding) != len(self.suffix_padding):
            raise ValueError(
                f"a layout needs one padding per row and part, got {len(self.prefix_padding)} for "
                f"the prefix and {len(self.suffix_padding)} for the suffix"
            )
        if not 0 <= self.num_visible <= self.prefix_length:
            raise ValueError(
                f"num_visible must lie in 0..{self.prefix_length}, got {self.num_visible}"
            )
        for padding in self.prefix_padding:
            if not 0 <= padding <= self.prefix_length:
                raise ValueError(f"prefix padding {padding} exceeds its {self.prefix_length} slots")
            if self.segmented and padding > self.prefix_length - self.num_visible:
                raise ValueError(
                    f"prefix padding {padding} reaches into the {self.num_visible} visible slots, "
                    "which segments forbid"
                )
        if any(padding < 0 for padding in self.suffix_padding):
            raise ValueError(f"suffix padding must not be negative, got {self.suffix_padding}")
        if self.memory:
            room = [self.prefix_length - padding for padding in self.prefix_padding]
            held = [len(row) for row in self.memory]
            if len(held) != len(room) or any(a > b for a, b in zip(held, room, strict=True)):
                raise ValueError(f"memories of {held} slots do not fit rows of {room}")

    @property
    def batch_size(self) -> int:
        """Rows."""
        return len(self.prefix_padding)

    @property
    def visible_padding(self) -> tuple[int, ...]:
        """How many of the visible slots are padding, for each row (0 for gists)."""
        hidden = self.prefix_length - self.num_visible
        return tuple(max(0, padding - hidden) for padding in self.prefix_padding)

    @property
    def memory_slots(self) -> tuple[int, ...]:
        """Slots of memory in each row."""
        return tuple(map(len, self.memory)) if self.memory else (0,) * self.batch_size

    def segment_bounds(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Where each row's V parts of the context begin, and where the last one ends.

        Returns:
            Slots ``(batch, V + 1)``; part j is ``bounds[:, j] .. bounds[:, j + 1]``. Parts differ
            in length by one token at most.
        """
        start = _column(self.prefix_padding, device) + _column(self.memory_slots, device)
        num_context = self.prefix_length - self.num_visible - start
        part = torch.arange(self.num_visible + 1, device=device)
        return start + num_context * part // max(1, self.num_visible)

    def share(self, kind: object, sizes: object, make: Callable[[], Made]) -> Made:
        """What the layers of a pass need alike: made in the first, handed out in the others.

        A mask is made of lists of paddings, and a GPU is waited for whenever it is given a list.

        Args:
            kind: What it is. Of each kind one is held, as long as the layout lives.
            sizes: What else than the layout it is made from; others make it anew.
            make: Makes it.
        """
        # What is made in inference mode cannot be saved for a backward pass.
        sizes = (sizes, torch.is_inference_mode_enabled())
        held = self.shared.get(kind)
        if held is None or held[0] != sizes:
            held = self.shared[kind] = (sizes, make())
        return cast(Made, held[1])

    def at(self, stage: Stage) -> GistLayout:
        """The same spans seen by another pass."""
        return replace(self, stage=stage)

    def as_memory(self) -> GistLayout:
        """What a pass over the prefix leaves, memory and visible slots, as nothing but memory."""
        positions = self.prefix_positions().tolist()
        rows = []
        for row, held, padding in zip(
            positions, self.memory_slots, self.prefix_padding, strict=True
        ):
            behind = max(self.prefix_length - self.num_visible, padding + held)
            rows.append(tuple(row[padding : padding + held] + row[behind:]))
        # Rows of gists alone may be padded; those of a memory never were.
        width = max((*map(len, rows), 0 if self.memory else self.num_visible))
        return GistLayout(
            prefix_length=width,
            num_visible=width,
            prefix_padding=tuple(width - len(row) for row in rows),
            suffix_padding=self.suffix_padding,
            stage="suffix",
            memory=tuple(rows),
        )

    def prefix_positions(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Rotary positions of the prefix slots, ``(batch, prefix_length)``; padding has 0."""
        slots = torch.arange(self.prefix_length, device=device)
        offset = self._offset(device)
        positions = (slots - offset).clamp(min=0)
        for row, memory in enumerate(self.memory):
            first = self.prefix_padding[row]
            positions[row, :first] = 0
            positions[row, first : first + len(memory)] = torch.tensor(memory, device=device)
        if self.segmented and self.num_visible:
            ends = self.segment_bounds(device)[:, 1:] - offset
            before = torch.arange(self.num_visible, device=device)
            positions[:, self.prefix_length - self.num_visible :] = ends + before
        return positions

    def suffix_positions(
        self, start: int, length: int, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Rotary positions of suffix slots ``start .. start+length``, ``(batch, length)``.

        The first real token of a row follows the last real slot of its prefix; padding has 0.
        """
        slots = torch.arange(start, start + length, device=device)
        offset = slots - _column(self.suffix_padding, device)
        end = self.prefix_length - self._offset(device)
        return torch.where(offset >= 0, offset + end, torch.zeros_like(offset))

    def joint_positions(
        self, suffix_length: int, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Rotary positions of a joint pass, ``(batch, prefix_length + suffix_length)``."""
        suffix = self.suffix_positions(0, suffix_length, device)
        return torch.cat([self.prefix_positions(device), suffix], dim=1)

    def _offset(self, device: torch.device | str) -> torch.Tensor:
        """Slot less position behind each row's memory, ``(batch, 1)``."""
        offset = _column(self.prefix_padding, device)
        if not self.memory:
            return offset
        # A memory takes fewer slots than its positions span.
        gaps = tuple(row[-1] + 1 - len(row) if row else 0 for row in self.memory)
        return offset - _column(gaps, device)


def pad_left(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Stack token rows of different lengths, padded on the left.

    Returns:
        Token ids ``(batch, longest)`` and the padding of each row.
    """
    longest = max((len(row) for row in rows), default=0)
    padding = tuple(longest - len(row) for row in rows)
    ids = [[pad_id] * pad + list(row) for pad, row in zip(padding, rows, strict=True)]
    shaped = torch.tensor(ids, dtype=torch.long, device=device).reshape(len(rows), longest)
    return shaped, padding


def _column(values: tuple[int, ...], device: torch.device | str) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.long, device=device).unsqueeze(1)
