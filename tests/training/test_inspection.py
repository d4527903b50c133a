"""Claims about what an inspection says of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from gistbench.cli import main
from gistbench.errors import TooLongError, UsageError
from gistbench.training.inspection import Inspection, inspect, what_is_stated
from gistbench.training.run import train
from tests.fixtures.tiny_base import tiny_config


@pytest.mark.parametrize(
    ("said", "stated"),
    [
        ("12345", "right"),
        ("67890", "another"),
        ("17340", "mixed"),
        ("12349", "neither"),
        ("1234", "neither"),
        ("123456", "neither"),
        ("", "neither"),
    ],
)
def test_an_answer_states_one_value_or_several_or_none(said: str, stated: str) -> None:
    assert what_is_stated(said, ["12345", "67890"]) == stated


@pytest.fixture(scope="module")
def segmented(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(
        tiny_base, adapter={"gist_view": "segments"}, training={"max_steps": 1, "save_steps": 1}
    )
    return train(config, tmp_path_factory.mktemp("segmented") / "run", device="cpu")


def look(folder: Path, **changes: int) -> Inspection:
    options = {"context_tokens": 220, "samples": 5, "batch_size": 2, **changes}
    return inspect(folder, task="niah_labelled_2", device="cpu", **options)


def test_every_sample_is_counted_once_and_batches_change_nothing(segmented: Path) -> None:
    seen = look(segmented)
    assert sum(seen.stated.values()) == 5
    assert seen.num_values == 2
    assert seen.pointed_by_layer is not None and len(seen.pointed_by_layer) == 2
    assert all(0 < share < 1 for share in seen.pointed_by_layer)
    assert seen.pointed_blindly is not None and 0.25 <= seen.pointed_blindly < 0.75
    together = look(segmented, batch_size=5)
    assert together.stated == seen.stated
    assert together.pointed_by_layer == pytest.approx(seen.pointed_by_layer, rel=1e-4)


def test_gists_that_read_everything_hold_no_one_needle(tiny_checkpoint: Path) -> None:
    seen = look(tiny_checkpoint, samples=1)
    assert seen.pointed_by_layer is None
    assert sum(seen.stated.values()) == 1


def test_the_command_says_whose_values_are_stated(
    segmented: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--task", "niah_labelled_2", "--context-tokens", "220", "--samples", "2"]
    with pytest.raises(SystemExit) as done:
        main(["inspect", str(segmented), *options, "--device", "cpu"])
    assert not done.value.code
    text = capsys.readouterr().out
    assert "another value of the document" in text
    assert "spread evenly" in text


def test_a_context_without_positions_is_refused(segmented: Path) -> None:
    with pytest.raises(TooLongError, match=r"pass --context-tokens \d+ or less"):
        look(segmented, context_tokens=1000)


def test_a_checkpoint_without_gists_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_base, objective="full", training={"max_steps": 1, "save_steps": 1})
    folder = train(config, tmp_path / "full", device="cpu")
    with pytest.raises(UsageError, match="has no gists to look at"):
        look(folder)
