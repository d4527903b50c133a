"""Operations of a training step and bytes of a decoding step, counted from an architecture.

They are floors: what the arithmetic and the memory cannot do without. Norms, rotary phases,
activations, softmax and optimiser are left out; each costs bytes and next to no operations.
"""

from __future__ import annotations

from dataclasses import dataclass

from gistbench.core.footprint import BYTES_PER_ELEMENT, Architecture


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """One optimiser step, as far as its operations depend on it.

    Attributes:
        num_sequences: Samples of the step.
        prefix_tokens: Of each: context and gists.
        visible_tokens: Of the prefix, those that question and answer see.
        suffix_tokens: Of each turn: question and answer.
        logit_tokens: Of each turn, those whose logits are computed.
        adapter_parameters: Of all LoRA matrices.
        head_is_trained: Whether the output matrix has gradients of its own.
        num_turns: Questions of all sequences together; one that shares a prefix with others sees
            none of them.
    """

    num_sequences: int
    prefix_tokens: int
    visible_tokens: int
    suffix_tokens: int
    logit_tokens: int
    num_turns: int
    adapter_parameters: int = 0
    head_is_trained: bool = False

    @property
    def num_tokens(self) -> int:
        """Tokens of the step."""
        return self.num_sequences * self.prefix_tokens + self.num_turns * self.suffix_tokens

    @property
    def num_pairs(self) -> int:
        """Pairs of a query and a key that it sees, over the step: half a square, each."""
        prefix, suffix = self.prefix_tokens, self.suffix_tokens
        turn = suffix * (suffix + 1) // 2 + suffix * self.visible_tokens
        return self.num_sequences * (prefix * (prefix + 1) // 2) + self.num_turns * turn


def block_operations(sizes: Architecture, step: TrainingStep) -> int:
    """One forward pass through all blocks: two operations for each weight and token, and for each
    pair a product of keys and one of values."""
    linear = 2 * (sizes.linear_parameters + step.adapter_parameters) * step.num_tokens
    attention = 4 * sizes.num_layers * sizes.num_heads * sizes.head_dim * step.num_pairs
    return linear + attention


def training_operations(sizes: Architecture, step: TrainingStep, *, recompute: bool) -> int:
    """Operations of forward and backward pass.

    Backwards, each product costs as much again for the gradient of what went in, and once more for
    the gradient of what it was multiplied with, if that has one: frozen weights do not, keys and
    queries do.

    Args:
        sizes: The architecture, all of whose layers attend to the whole sequence.
        step: The step.
        recompute: Count a second forward pass through the blocks, as gradient checkpointing needs.
    """
    forward = block_operations(sizes, step)
    frozen = 2 * sizes.linear_parameters * step.num_tokens
    backward = 2 * forward - frozen
    num_logits = step.num_turns * step.logit_tokens
    head = 2 * sizes.hidden_size * sizes.vocab_size * num_logits
    heads = head * (3 if step.head_is_trained else 2)
    return forward + backward + heads + (forward if recompute else 0)


def decoding_bytes(
    sizes: Architecture,
    *,
    num_rows: int,
    slots: float,
    dtype: str,
    quantization: str,
    unpacked_parameters: int = 0,
) -> float:
    """Bytes that one decoding step moves: every weight once, and every row's keys and values.

    Weights that are unpacked first are read packed, written and read again.

    Args:
        sizes: The architecture.
        num_rows: Answers generated together; of an input embedding only their rows are read.
        slots: Of each row, on average.
        dtype: Of the computation and the cache.
        quantization: Of the blocks.
        unpacked_parameters: Quantised weights that the step unpacks, since no kernel multiplies
            so many rows with packed ones.
    """
    weights = sizes.weights_bytes(dtype, quantization)
    if not sizes.tied:
        embedding = sizes.vocab_size - num_rows
        weights -= embedding * sizes.hidden_size * BYTES_PER_ELEMENT[dtype]
    weights += 2 * unpacked_parameters * BYTES_PER_ELEMENT[dtype]
    return weights + num_rows * slots * sizes.key_value_bytes_per_token(dtype)


def unpacking_bytes(parameters: int, dtype: str) -> float:
    """Bytes that unpacking moves before any product begins: half a byte read and one element
    written for each 4-bit weight. Scales are left out."""
    return parameters * (0.5 + BYTES_PER_ELEMENT[dtype])
