"""Claims about the comparison of a checkpoint with its base model on prose."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gistbench.cli import main
from gistbench.core.layout import GistLayout
from gistbench.errors import TooLongError, UsageError
from gistbench.models.catalog import file_sha256, find_model
from gistbench.models.loading import load_base
from gistbench.models.manifest import MANIFEST_FILE
from gistbench.training.forgetting import (
    forgetting,
    ratio_of,
    window_losses,
    windows_of,
)

SMALL = {"device": "cpu", "windows": 5, "window_tokens": 40, "batch_size": 2}


def rewritten(checkpoint: Path, folder: Path, change: Callable[[str, Any], Any]) -> Path:
    """A copy of a checkpoint with other tensors, whose manifest knows them."""
    shutil.copytree(checkpoint, folder)
    weights = folder / "adapter_model.safetensors"
    save_file({name: change(name, old) for name, old in load_file(weights).items()}, weights)
    fields = json.loads((folder / MANIFEST_FILE).read_text())
    fields["adapter_sha256"] = file_sha256(weights)
    (folder / MANIFEST_FILE).write_text(json.dumps(fields))
    return folder


@pytest.fixture
def changed(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The checkpoint with an adapter that does something."""
    torch.manual_seed(0)
    return rewritten(tiny_checkpoint, tmp_path / "changed", lambda _, old: torch.randn_like(old))


@pytest.fixture
def untouched(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The checkpoint with an adapter that does nothing; its gist rows stay."""
    return rewritten(
        tiny_checkpoint,
        tmp_path / "untouched",
        lambda name, old: torch.zeros_like(old) if "lora_B" in name else old,
    )


def test_an_adapter_that_does_nothing_forgets_nothing(untouched: Path) -> None:
    found = forgetting(untouched, **SMALL)
    assert found.ratio == pytest.approx(1, abs=1e-6)
    assert found.low <= found.ratio <= found.high
    assert found.perplexity == pytest.approx(found.base_perplexity, rel=1e-6)
    assert found.num_tokens == 5 * 39


def test_a_changed_adapter_is_compared_window_by_window(changed: Path) -> None:
    found = forgetting(changed, **SMALL)
    assert found.ratio != pytest.approx(1, abs=1e-3)
    assert found.ratio == pytest.approx(found.perplexity / found.base_perplexity)
    assert found.low < found.ratio < found.high
    again = forgetting(changed, **{**SMALL, "batch_size": 5})
    assert again.ratio == pytest.approx(found.ratio, rel=1e-5), "batches change nothing"


def test_a_windows_loss_is_that_of_its_tokens_one_by_one(tiny_base: Path) -> None:
    base = load_base(find_model(str(tiny_base)), dtype=torch.float32, device="cpu")
    rows = torch.arange(24).reshape(2, 12) % base.num_text_tokens
    found = window_losses(base.model, rows, base.num_text_tokens)
    for row, loss in zip(rows, found, strict=True):
        by_hand = []
        for place in range(1, 12):
            before = row[None, :place]
            layout = GistLayout(place, place, (0,), (0,), stage="prefix")
            with torch.inference_mode():
                logits = base.model(input_ids=before, layout=layout).logits[0, -1]
            by_hand.append(-logits[: base.num_text_tokens].log_softmax(0)[row[place]].item())
        assert loss.item() == pytest.approx(sum(by_hand) / 11, rel=1e-4)


def test_a_text_shorter_than_two_windows_has_no_number_of_windows_to_pass() -> None:
    with pytest.raises(UsageError, match="fewer than 2 windows of 10; pass a smaller"):
        windows_of(range(15), 4, 10)


def test_windows_lie_side_by_side_over_the_whole_text() -> None:
    rows = windows_of(range(105), 4, 10)
    assert rows[:, 0].tolist() == [0, 20, 50, 70]
    assert (rows[:, 1:] - rows[:, :-1] == 1).all()


def test_the_interval_is_students() -> None:
    # Differences 0.01, 0.02, 0.03: mean 0.02, standard error 0.01 / sqrt(3), t(0.975, 2) = 4.3027.
    half = 4.302653 * 0.01 / math.sqrt(3)
    found = ratio_of([0.01, 0.02, 0.03])
    assert found == pytest.approx((math.exp(0.02), math.exp(0.02 - half), math.exp(0.02 + half)))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"windows": 1}, UsageError, "1 windows of 40 tokens show nothing"),
        ({"windows": 10**6}, UsageError, r"the text has [\d,]+ tokens, \d+ windows of 40; pass"),
        ({"window_tokens": 10**5}, TooLongError, "exceeds the .* positions"),
        ({"text": Path("missing.txt")}, UsageError, "missing.txt does not exist"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(
    tiny_checkpoint: Path, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        forgetting(tiny_checkpoint, **{**SMALL, **changes})


def test_the_command_says_by_how_much(
    changed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "own.txt"
    text.write_text("The heron went over the hill. " * 60)
    options = ["--text", str(text), "--windows", "3", "--window-tokens", "20", "--device", "cpu"]
    with pytest.raises(SystemExit) as done:
        main(["forgetting", str(changed), *options])
    assert not done.value.code
    assert "% (95 % interval" in capsys.readouterr().out
