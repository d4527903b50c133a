"""The static decoding loop: one step of constant shape, captured as a CUDA graph and replayed.

The eager loop launches each kernel of each layer from Python, which for one row costs several times
what the kernels take. Here the question is read as in the eager loop, by the same calls; every
token after the first is a replay of one captured step, whose state (slot, tokens, what may be read)
lives in tensors, and whose projections of one input are one product. A compiled step is the same
one, its norms, rotary phases and activations fused by `torch.compile` before it is captured. On a
CPU the step runs uncaptured.
`gistbench.models.decode.answer` is the reference: all loops generate the same
tokens in float32; in bf16 a near tie may fall the other way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache

from gistbench.config import Decoding
from gistbench.core.cache import ContextCache
from gistbench.core.layout import GistLayout, pad_left
from gistbench.core.step import StepView
from gistbench.models.buffer import BufferLayer
from gistbench.models.decode import AnswerLoop, Answers, Clock, Rows, answer, continue_layout
from gistbench.models.joint import JointProjections

SLOTS_MULTIPLE = 32
"""Buffers are rounded up to this many slots, so that questions of about one length share a graph
and kernels find their loads aligned."""

CHECK_STEPS = 8
"""Steps between two looks at the tokens, each of which waits for the device. What a row generated
behind its end is dropped."""

MANY_SHAPES = 1000
"""Steps that may be compiled in one process; torch gives up after 8 and runs the rest as they are,
without a word."""

WARM_UP_STEPS = 3
"""Uncaptured steps before a capture: libraries allocate and choose kernels when first called."""


class DecodingStep:
    """The buffers of one batch shape, and the step over them.

    Attributes:
        model: Whose step it is.
        shape: Rows, slots and vocabulary rows of text; fixed.
        tokens: ``(batch, slots + 1)``: the token at each slot of the suffix.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        shape: tuple[int, int, int],
        device: torch.device,
        *,
        compiled: bool = False,
    ) -> None:
        batch, num_slots, _ = shape
        self.model, self.shape, self.device = model, shape, device
        config: Any = model.config
        self._layers = [BufferLayer(num_slots) for _ in range(config.num_hidden_layers)]
        self._cache = Cache(layers=self._layers)
        self.tokens = torch.zeros((batch, num_slots + 1), dtype=torch.long, device=device)
        empty = (0,) * batch
        layout = GistLayout(0, 0, empty, empty, stage="suffix")
        self._view = StepView.of(layout, num_slots, 0, device)
        self._projections = JointProjections(model)
        self._graph: torch.cuda.CUDAGraph | None = None
        # A step's shapes are its own: told that some may vary, torch would compile for all of them.
        self._compiled: Callable[[], None] | None = (
            torch.compile(self._step, dynamic=False) if compiled else None
        )
        self._is_prepared = False

    def ask(self, context: ContextCache, ids: torch.Tensor, layout: GistLayout) -> torch.Tensor:
        """Fill the buffers with a context and read the questions, as the eager loop does.

        Args:
            context: One per row.
            ids: ``(batch, question)``, padded on the left.
            layout: Of context and questions.

        Returns:
            The first token of each row, ``(batch,)``.
        """
        _, num_slots, num_text_tokens = self.shape
        for number, layer in enumerate(self._layers):
            layer.slot = None
            if context.keys:
                layer.load(context.keys[number], context.values[number])
            else:
                layer.clear()
        first = layout.num_visible + ids.shape[1]
        logits = self.model(
            input_ids=ids,
            position_ids=layout.suffix_positions(0, ids.shape[1], self.device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            layout=layout,
        ).logits
        best: torch.Tensor = logits[:, -1, :num_text_tokens].argmax(dim=-1)
        self.tokens[:, first] = best
        self._go_on_from(layout, num_slots, first)
        return best

    def _go_on_from(self, layout: GistLayout, num_slots: int, first: int) -> None:
        """Be ready for steps behind the token at a slot."""
        self._view.copy_(StepView.of(layout, num_slots, first, self.device))
        for layer in self._layers:
            layer.slot = self._view.slot

    def prepare(self) -> None:
        """Compile and capture the step, once. Tokens and place stay as they are.

        What runs meanwhile writes keys where the first steps will write them again.
        """
        if self._is_prepared:
            return
        slot = self._view.slot.clone()
        tokens = self.tokens.clone()
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                self._graph = self._captured(slot)
                self._graph.replay()  # the first replay uploads the graph
        elif self._compiled is not None:
            self._warm_up(slot, 1)
        self._view.slot.copy_(slot)
        self.tokens.copy_(tokens)
        self._is_prepared = True

    def _captured(self, slot: torch.Tensor) -> torch.cuda.CUDAGraph:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._warm_up(slot, WARM_UP_STEPS)
        torch.cuda.current_stream().wait_stream(side)
        self._view.slot.copy_(slot)
        graph = torch.cuda.CUDAGraph()
        # Another thread may be reading the allocator's counters meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._run()
        self._view.slot.copy_(slot)
        return graph

    def _warm_up(self, slot: torch.Tensor, num_steps: int) -> None:
        with torch._dynamo.config.patch(
            recompile_limit=MANY_SHAPES, accumulated_recompile_limit=MANY_SHAPES
        ):
            for _ in range(num_steps):
                self._view.slot.copy_(slot)
                self._run()

    def run(self, num_steps: int) -> None:
        """So many further tokens for every row."""
        for _ in range(num_steps):
            if self._graph is not None:
                self._graph.replay()
            else:
                self._run()

    def close(self) -> None:
        """Free buffers and graph now, whoever still refers to the step. Nothing can follow."""
        for layer in self._layers:
            layer.release()
        self._graph = self._compiled = None

    def _run(self) -> None:
        with self._projections.products():
            if self._compiled is not None:
                self._compiled()
            else:
                self._step()

    def _step(self) -> None:
        """One token for every row. No shape in it, and no value that Python sees, changes."""
        view = self._view.here()
        logits = self.model(
            input_ids=self.tokens.index_select(1, view.slot),
            position_ids=view.positions.index_select(1, view.slot),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            layout=view,
        ).logits
        best = logits[:, -1, : self.shape[2]].argmax(dim=-1, keepdim=True)
        self._view.slot.add_(1)
        self.tokens.index_copy_(1, self._view.slot, best)


class StaticDecoding:
    """The static loop. Keeps the step of the latest batch shape, since capturing one takes time.

    What is kept is as large as the cache of the latest batch: `release` lets go of it.
    """

    def __init__(self, *, compiled: bool = False) -> None:
        self._compiled = compiled
        self._step: DecodingStep | None = None

    def release(self) -> None:
        """Free the buffers and the graph."""
        if self._step is not None:
            self._step.close()
        self._step = None

    @torch.inference_mode()
    def __call__(
        self,
        model: torch.nn.Module,
        context: ContextCache,
        questions: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        is_done: Callable[[list[int]], bool],
        num_text_tokens: int,
        clock: Clock = time.perf_counter,
    ) -> Answers:
        """Answer greedily from a cache, as `gistbench.models.decode.answer` does.

        Compiling and capturing are in neither of the times. `decode_steps` counts every step that
        ran, up to `CHECK_STEPS` - 1 of them behind the end of the last row.
        """
        device = next(model.parameters()).device
        ids, padding = pad_left(questions, pad_id=0, device=device)
        layout = continue_layout(context, padding)
        rows = Rows(len(questions), is_done)
        first = layout.num_visible + ids.shape[1]
        step = self._step_for(model, len(questions), first + max_new_tokens, num_text_tokens)
        start = clock()
        rows.take(step.ask(context, ids, layout).tolist())
        first_token = clock()
        steps = 0
        if rows.all_done or max_new_tokens == 1:
            return Answers(rows.tokens, first_token - start, 0.0, steps)
        step.prepare()
        start_decoding = clock()
        while steps + 1 < max_new_tokens and not rows.all_done:
            more = min(CHECK_STEPS, max_new_tokens - 1 - steps)
            step.run(more)
            new = step.tokens[:, first + steps + 1 : first + steps + 1 + more]
            for column in new.T.tolist():
                rows.take(column)
            steps += more
        return Answers(rows.tokens, first_token - start, clock() - start_decoding, steps)

    def _step_for(
        self, model: torch.nn.Module, num_rows: int, least_slots: int, num_text_tokens: int
    ) -> DecodingStep:
        """The kept step, or a new one where the shape or the model is another."""
        num_slots = -(-least_slots // SLOTS_MULTIPLE) * SLOTS_MULTIPLE
        shape = (num_rows, num_slots, num_text_tokens)
        kept = self._step
        if kept is None or kept.model is not model or kept.shape != shape:
            # Let go of the old buffers before the new ones are allocated.
            self.release()
            device = next(model.parameters()).device
            kept = DecodingStep(model, shape, device, compiled=self._compiled)
            self._step = kept
        return kept


def decoding_loop(name: Decoding) -> AnswerLoop:
    """A loop of its own for each process, by its name in the settings."""
    return answer if name == "eager" else StaticDecoding(compiled=name == "compiled")


def release(loop: AnswerLoop) -> None:
    """Let a loop free what it keeps between batches."""
    if isinstance(loop, StaticDecoding):
        loop.release()
