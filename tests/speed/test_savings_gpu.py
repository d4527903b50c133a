"""On a GPU, what is filled is filled to the byte that NVML shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gistbench.config_files import validate
from gistbench.records import NotMeasured
from gistbench.report.savings.render import render_savings
from gistbench.speed.meter import Meter
from gistbench.speed.savings import measure_savings
from gistbench.speed.savings_settings import SavingsConfig

pytestmark = pytest.mark.gpu

FIELDS = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 4096,
}


def test_a_budget_is_filled_kept_and_given_back(tmp_path: Path) -> None:
    import torch

    (tmp_path / "config.json").write_text(json.dumps(FIELDS))
    torch.zeros(1, device="cuda:0")
    meter = Meter.open("cuda:0")
    before = meter.available()
    settings = validate(
        SavingsConfig,
        {
            "base": str(tmp_path),
            "weights": "random",
            "quantizations": "none",
            "context_tokens": 1000,
            "contexts": "1,4",
            "rounds": 2,
            "budget_gib": 1.5,
            "energy_seconds": 0.2,
        },
        "test",
    )
    record = measure_savings(settings, tmp_path / "out", device="cuda", command="gistbench")
    (found,) = record.precisions
    token = 2 * 4 * 8 * 64 * 2
    for part in (found.stored, found.answered):
        assert isinstance(part, tuple), part
        full, gist = part
        assert full.ended_by == gist.ended_by == "budget"
        assert full.fails == full.fits + 1
        for filled in part:
            fitting = [p for p in filled.probes if p.outcome == "fits"]
            assert max(p.used_bytes or 0 for p in fitting) <= settings.budget_bytes
        assert full.fits * 1000 * token <= settings.budget_bytes
        assert gist.fits * 10 * token <= settings.budget_bytes
        assert gist.fits > full.fits * 10
    assert isinstance(found.throughput, tuple)
    for values in found.key_values:
        assert values.predicted_bytes == values.measured_bytes == values.allocated_bytes
    steady = {
        (c.arm, c.contexts): c.torch_allocated_bytes
        for c in found.phases or ()
        if c.phase == "steady"
    }
    assert steady["full", 4] - steady["full", 1] == 3 * 1000 * token  # type: ignore[operator]
    assert steady["gist", 4] - steady["gist", 1] == 3 * 10 * token  # type: ignore[operator]
    after = meter.available()
    assert not isinstance(before, NotMeasured) and not isinstance(after, NotMeasured)
    assert abs(after - before) < 2**30, "what was measured is given back"
    card, _ = render_savings(tmp_path / "out")
    assert card.sections
