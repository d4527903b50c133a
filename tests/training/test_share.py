"""Claims about how the work of a step is shared, without any process but this one."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gistbench.config import TrainConfig
from gistbench.errors import PrerequisiteError, UsageError
from gistbench.launch import Launch, launched
from gistbench.models.loading import load_tokenizer
from gistbench.training.curriculum import Curriculum
from gistbench.training.data import SampleBatches
from gistbench.training.share import Share, share_of
from tests.fixtures.tiny_base import NUM_GISTS, tiny_config

GISTS = tuple(range(1000, 1000 + NUM_GISTS))


@given(
    accumulation=st.integers(1, 12),
    processes=st.integers(1, 9),
    spare_rows=st.integers(0, 20),
    step=st.integers(0, 5),
)
def test_processes_take_every_row_of_a_step_exactly_once(
    accumulation: int, processes: int, spare_rows: int, step: int
) -> None:
    shares = [Share(accumulation, rank, processes) for rank in range(processes)]
    rows = shares[0].parts + spare_rows
    taken = [
        (share.micro_step(step * share.own_accumulation + turn), row)
        for share in shares
        for turn in range(share.own_accumulation)
        for row in share.rows(rows)
    ]
    first = step * accumulation
    whole = [(first + place, row) for place in range(accumulation) for row in range(rows)]
    assert sorted(taken) == whole


@given(accumulation=st.integers(1, 12), processes=st.integers(1, 9), spare_rows=st.integers(0, 20))
def test_every_process_has_something_to_do_and_none_much_more_than_another(
    accumulation: int, processes: int, spare_rows: int
) -> None:
    shares = [Share(accumulation, rank, processes) for rank in range(processes)]
    sizes = [len(share.rows(shares[0].parts + spare_rows)) for share in shares]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


def rows_of(batch: dict[str, torch.Tensor]) -> list[tuple[tuple[int, ...], ...]]:
    """Context, question and answer of each row, without the padding that its batch needed."""
    found = []
    for row, padding in enumerate(batch["prefix_padding"].tolist()):
        prefix = tuple(batch["prefix_ids"][row, padding:].tolist())
        suffix = tuple(batch["suffix_ids"][row, int(batch["suffix_padding"][row]) :].tolist())
        found.append((prefix, suffix))
    return found


def mixed(base: Path, accumulation: int, workers: int) -> TrainConfig:
    data = {"tasks": ("niah_passkey", "niah_absent"), "curriculum": (140,), "replay": 0.4}
    training = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": accumulation}
    return tiny_config(base, data={**data, "num_workers": workers}, training=training)


def samples(config: TrainConfig, base: Path, share: Share, num_steps: int) -> list[Any]:
    curriculum, tokenizer = Curriculum(config, stage=1), load_tokenizer(base)
    source = SampleBatches(config, curriculum, base, tokenizer, GISTS, share=share)
    try:
        made = list(islice(source, num_steps * share.own_accumulation))
    finally:
        source.close()
    return [row for batch in made for row in rows_of(batch)]


@pytest.mark.parametrize("accumulation", [1, 2, 3])
def test_the_samples_of_all_processes_are_those_of_one(tiny_base: Path, accumulation: int) -> None:
    config = mixed(tiny_base, accumulation, workers=0)
    alone = samples(config, tiny_base, Share(accumulation), 3)
    ours, theirs = (samples(config, tiny_base, Share(accumulation, rank, 2), 3) for rank in (0, 1))
    assert len(set(alone)) == len(alone)
    assert not set(ours) & set(theirs)
    assert sorted(ours + theirs) == sorted(alone)


def test_workers_prepare_the_share_of_their_process(tiny_base: Path) -> None:
    alone, helped = (
        samples(mixed(tiny_base, 1, workers), tiny_base, Share(1, 1, 2), 3) for workers in (0, 1)
    )
    assert alone == helped


def config(**training: Any) -> TrainConfig:
    return TrainConfig.model_validate({"training": training})


@pytest.mark.parametrize(
    ("training", "processes"),
    [
        ({"per_device_train_batch_size": 3}, 2),
        ({"per_device_train_batch_size": 1}, 2),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}, 8),
        ({"per_device_train_batch_size": 8, "max_batch_size": 3}, 2),
    ],
)
def test_a_step_that_cannot_be_shared_evenly_is_refused(
    training: dict[str, int], processes: int
) -> None:
    with pytest.raises(UsageError, match="cannot be shared evenly") as caught:
        share_of(config(**training), Launch(0, processes, 0, processes))
    text = str(caught.value)
    assert "\n" not in text
    named = int(text.split("--training.per-device-train-batch-size ")[1])
    mended = {**training, "per_device_train_batch_size": named, "max_batch_size": 128}
    share_of(config(**mended), Launch(0, processes, 0, processes))


def test_micro_batches_are_dealt_out_whole_before_any_is_cut() -> None:
    share = share_of(
        config(per_device_train_batch_size=1, gradient_accumulation_steps=8), Launch(1, 4, 1, 4)
    )
    assert (share.own_accumulation, share.parts) == (2, 1)
    assert [share.micro_step(number) for number in range(4)] == [1, 5, 9, 13]


TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}


def test_a_process_knows_its_place_from_its_launcher() -> None:
    assert launched({}) == Launch(0, 1, 0, 1)
    assert launched({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}) == Launch()
    assert launched(TORCHRUN) == Launch(rank=3, processes=4, local_rank=1, local_processes=2)
    assert not launched(TORCHRUN).is_first


@pytest.mark.parametrize("wrong", [{"RANK": ""}, {"RANK": "4"}, {"LOCAL_RANK": "2"}])
def test_half_a_launch_is_none(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="torchrun --nproc-per-node 4"):
        launched({**TORCHRUN, **wrong})


def put(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)


def test_each_process_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from gistbench.cli.app import device_of

    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    put(monkeypatch, **TORCHRUN)
    assert device_of("auto") == "cuda"
    assert taken == [1]
    put(monkeypatch, LOCAL_WORLD_SIZE="4")
    with pytest.raises(PrerequisiteError, match=r"this machine has 2; pass --nproc-per-node 2"):
        device_of("cuda")


@pytest.mark.parametrize("rank", ["0", "1"])
def test_what_one_process_alone_refuses_it_says_itself(
    rank: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gistbench.cli import entry

    waited: list[float] = []
    monkeypatch.setattr(entry.time, "sleep", waited.append)
    put(monkeypatch, RANK=rank)
    with pytest.raises(SystemExit) as end:
        entry.main(["train", "--config", "nowhere.yaml"])
    assert end.value.code == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "cannot read nowhere.yaml" in text
    assert text.startswith("gistbench: process 1: ") == (rank == "1")
    assert waited == ([entry.SECONDS_FOR_THE_FIRST] if rank == "1" else [])
