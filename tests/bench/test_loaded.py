"""A worker's model is made ready for the loop that its run asks for."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from gistbench.bench.job import Job
from gistbench.bench.loaded import Loaded, load
from tests.fixtures.tiny_base import CONTEXT_TOKENS


def loaded(arm: str, base: Path, checkpoint: Path, folder: Path, decoding: Any) -> Loaded:
    job = Job(
        mode="evaluate",
        arm=arm,
        folder=str(folder),
        base=str(base),
        revision=None,
        checkpoint=str(checkpoint),
        tasks=("niah_passkey",),
        context_tokens=CONTEXT_TOKENS,
        samples=1,
        seed=0,
        device="cpu",
        dtype="float32",
        quantization="none",
        batch_size=1,
        decoding=decoding,
        contexts_held=1,
        allow_other_precision=False,
        trust_remote_code=False,
    )
    return load(job, "cpu", lambda _: nullcontext())


@pytest.mark.parametrize("arm", ["full", "gist"])
def test_every_arm_s_projections_lie_together_unless_the_loop_is_eager(
    arm: str, tiny_base: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """While it is loaded: a copy made at the first answer would count as the answer's memory."""
    for decoding in ("eager", "static", "compiled"):
        found = loaded(arm, tiny_base, tiny_checkpoint, tmp_path, decoding)
        model: Any = found.engine.reader.model
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            for first, last in (
                (attention.q_proj, attention.v_proj),
                (mlp.gate_proj, mlp.up_proj),
            ):
                storages = {linear.weight.untyped_storage().data_ptr() for linear in (first, last)}
                assert len(storages) == (2 if decoding == "eager" else 1)
        parameters = sum(p.numel() for p in (*model.parameters(), *model.buffers()))
        assert found.weights_bytes == 4 * parameters
