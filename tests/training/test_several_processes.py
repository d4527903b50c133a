"""Claims about trainings that several processes share: two of them on the CPU, by gloo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gistbench.config import TrainConfig
from gistbench.errors import UsageError
from gistbench.launch import Launch
from gistbench.models.manifest import read_manifest
from gistbench.storage import only_process
from gistbench.training.curriculum import Curriculum
from gistbench.training.run import train
from gistbench.training.sharding import require_shardable
from gistbench.training.states import latest_checkpoint
from tests.fixtures.tiny_base import tiny_config

ROOT = Path(__file__).resolve().parents[2]
TIMES = ("seconds", "seconds_per_step", "epoch")

# Trains one configuration after the other, in the same two processes. What the curriculum is told
# is written down by each; a step at which to die may be named. The second one samples other text
# than the first, as GPUs that round apart may do.
TOGETHER = """
import json, os, signal, sys
from pathlib import Path
from gistbench.config import TrainConfig
from gistbench.training.curriculum import Curriculum
from gistbench.training.run import train
import gistbench.training.keeping as keeping
import gistbench.training.trainer as trainer

rank, orders, deadly = os.environ["RANK"], json.loads(Path(sys.argv[1]).read_text()), sys.argv[3:]
observe, end_of_step = Curriculum.observe, trainer.GistTrainer.end_of_step

def writing(self, step):
    advanced = observe(self, step)
    with Path(f"{folder}.told-{rank}").open("a") as file:
        file.write(json.dumps([step, advanced]) + "\\n")
    return advanced

def dying(self):
    advanced = end_of_step(self)
    if rank == "1" and [str(self.state.global_step)] == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return advanced

sampled_text = keeping.sampled_text

def sampling(base, windows, window_tokens, *, seed, **others):
    return sampled_text(base, windows, window_tokens, seed=seed + int(rank), **others)

Curriculum.observe, trainer.GistTrainer.end_of_step = writing, dying
keeping.sampled_text = sampling
for folder, config in orders.items():
    train(TrainConfig.model_validate(config), Path(folder), device=sys.argv[2])
"""


def torchrun(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Two processes; --standalone takes a port that is free."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    path = [str(Path(folder).resolve()) for folder in (*given, ROOT)]
    return subprocess.run(
        [*launcher, "--nproc-per-node", "2", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def train_together(
    configs: dict[str, TrainConfig], folder: Path, *deadly: int, device: str = "cpu"
) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    script, orders = folder / "together.py", folder / "orders.json"
    script.write_text(TOGETHER, encoding="utf-8")
    named = {str(folder / name): made.model_dump(mode="json") for name, made in configs.items()}
    orders.write_text(json.dumps(named), encoding="utf-8")
    return torchrun(str(script), str(orders), device, *map(str, deadly), cwd=folder)


def metrics(folder: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").open(encoding="utf-8")]
    return [{key: v for key, v in entry.items() if key not in TIMES} for entry in entries]


def told(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.open(encoding="utf-8")]


# Answers of 3 to 8 tokens: a mean of the processes' means would not be the mean.
UNEQUAL = ("niah_absent", "document_topic")


def configurations(base: Path) -> dict[str, TrainConfig]:
    """Each way in which a step may be shared, and each kind of step."""
    several: dict[str, Any] = {"max_steps": 4, "learning_rate": 1e-2, "save_steps": 4}
    accumulated = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    return {
        "rows": tiny_config(
            base,
            data={"tasks": UNEQUAL, "context_tokens": 256},
            training={**several, "per_device_train_batch_size": 6},
        ),
        "micro-batches": tiny_config(
            base,
            data={"tasks": UNEQUAL, "context_tokens": 256},
            training={**several, **accumulated, "gradient_checkpointing": True},
        ),
        "curriculum": tiny_config(
            base,
            data={"curriculum": (140,), "replay": 0.4, "length_jitter": 0.1, "max_stage_steps": 3},
            training={**several, "max_steps": 7, "gradient_accumulation_steps": 3},
        ),
        "questions": tiny_config(
            base,
            adapter={"gist_view": "segments"},
            data={"tasks": ("niah_labelled_2",), "questions_per_context": 2, "context_tokens": 256},
            training={**several, "pointer_weight": 0.5, "per_device_train_batch_size": 4},
        ),
        "kept": tiny_config(
            base,
            data={"tasks": UNEQUAL, "context_tokens": 256},
            training={**several, **accumulated, "keep_weight": 2.0},
        ),
        "mixed": tiny_config(
            base,
            data={
                "tasks": UNEQUAL,
                "first_tasks": UNEQUAL[:1],
                "context_tokens": 256,
                "curriculum": (200,),
                "max_stage_steps": 2,
                "focus": 0.5,
            },
            training={
                **several,
                **accumulated,
                "max_steps": 6,
                "keep_weight": 2.0,
                "keep_from_tokens": 256,
                "lora_plus_ratio": 4.0,
            },
        ),
        "answered by the base model": tiny_config(
            base,
            adapter={"answer_with": "base"},
            data={"tasks": UNEQUAL, "context_tokens": 256},
            training={**several, **accumulated, "per_device_train_batch_size": 2},
        ),
        "answered by weights of their own": tiny_config(
            base,
            adapter={"answer_with": "own"},
            data={"tasks": UNEQUAL, "context_tokens": 256},
            training={
                **several,
                **accumulated,
                "per_device_train_batch_size": 2,
                "keep_weight": 2.0,
            },
        ),
        "sharded": tiny_config(
            base,
            data={"tasks": UNEQUAL, "context_tokens": 256},
            training={**several, **accumulated, "shard_base": True, "gradient_checkpointing": True},
        ),
        "full": tiny_config(
            base,
            objective="full",
            adapter={"modules_to_save": ["lm_head"]},
            data={"tasks": UNEQUAL, "context_tokens": 256},
            training={**several, **accumulated},
        ),
    }


NAMES = (
    "rows",
    "micro-batches",
    "curriculum",
    "questions",
    "kept",
    "mixed",
    "answered by the base model",
    "answered by weights of their own",
    "sharded",
    "full",
)


@pytest.fixture(scope="module")
def shared_out(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them, trained by two processes."""
    folder = tmp_path_factory.mktemp("two-processes")
    done = train_together(configurations(tiny_base), folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def whole(config: TrainConfig) -> TrainConfig:
    """What one process can train: nothing is sharded."""
    training = config.training.model_copy(update={"shard_base": False})
    return config.model_copy(update={"training": training})


@pytest.fixture(scope="module")
def alone(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, trained by this process."""
    folder = tmp_path_factory.mktemp("one-process")
    observe = Curriculum.observe
    for name, config in configurations(tiny_base).items():

        def writing(self: Curriculum, step: Any, path: Path = folder / f"{name}.told-0") -> bool:
            advanced = observe(self, step)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([step, advanced]) + "\n")
            return advanced

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Curriculum, "observe", writing)
            train(whole(config), folder / name, device="cpu")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_train_like_one(shared_out: Path, alone: Path, name: str) -> None:
    """Losses, gradients, rates and counts of every step, over all of the step's samples."""
    ours, theirs = metrics(shared_out / name), metrics(alone / name)
    assert len(ours) == len(theirs) >= 4
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=2e-4), one["step"]
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-5), one["step"]


@pytest.mark.parametrize("name", NAMES)
def test_what_two_processes_write_is_what_one_writes(
    shared_out: Path, alone: Path, name: str
) -> None:
    ours, theirs = (
        load_file(folder / name / "adapter_model.safetensors") for folder in (shared_out, alone)
    )
    assert ours.keys() == theirs.keys()
    for tensor, mine in ours.items():
        torch.testing.assert_close(mine, theirs[tensor], rtol=2e-2, atol=2e-3)
    settings = [
        json.loads((folder / name / "adapter_config.json").read_text(encoding="utf-8"))
        for folder in (shared_out, alone)
    ]
    for each in settings:  # a set, in an order of each process's own
        each["target_modules"].sort()
    assert settings[0] == settings[1]
    changing = {"created", "adapter_sha256", "adapter_config_sha256", "training_summary"}
    one, other = (
        read_manifest(folder / name).model_dump(exclude=changing) for folder in (shared_out, alone)
    )
    assert one["training_config"]["training"].pop("shard_base") == (name == "sharded")
    del other["training_config"]["training"]["shard_base"]
    assert one == other
    files = [{path.name for path in (folder / name).iterdir()} for folder in (shared_out, alone)]
    assert files[0] == files[1]


@pytest.mark.parametrize("name", NAMES)
def test_every_process_tells_its_curriculum_the_same(
    shared_out: Path, alone: Path, name: str
) -> None:
    first, second = (told(shared_out / f"{name}.told-{rank}") for rank in (0, 1))
    assert first == second == told(alone / f"{name}.told-0")


def test_the_log_is_written_by_one_process_and_names_them_all(shared_out: Path) -> None:
    log = (shared_out / "curriculum" / "training.md").read_text(encoding="utf-8")
    assert log.count("# Training log") == 1
    assert log.count("| 3 | 43 % | 1") == 1
    assert log.count("stage 2 of 2: all tasks, contexts of 160 tokens") == 1
    assert "processes: 2, which share every step" in log
    assert "on CPU, 2 processes." in log


def test_a_state_of_two_processes_is_refused_by_one(
    shared_out: Path, tiny_base: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(shared_out / "rows", tmp_path / "rows"))
    (folder / "gist.json").unlink()
    with pytest.raises(UsageError, match=r"in 2 processes, and this one has 1; start 2 again"):
        train(configurations(tiny_base)["rows"], folder, device="cpu")


@pytest.mark.parametrize(
    ("changes", "processes", "sentence"),
    [
        ({}, 1, "and there is one; start several with `torchrun"),
        ({"base": {"quantization": "nf4"}}, 2, "cannot cut weights in nf4"),
        ({"data": {"questions_per_context": 2}}, 2, "questions_per_context 2 does not go with"),
        ({"adapter": {"answer_with": "base"}}, 2, "answer_with base does not go with"),
        ({"adapter": {"answer_with": "own"}}, 2, "answer_with own does not go with"),
    ],
)
def test_a_base_model_that_cannot_be_sharded_is_refused(
    changes: dict[str, Any], processes: int, sentence: str
) -> None:
    fields = {"training": {"shard_base": True}, **changes}
    with pytest.raises(UsageError, match=sentence):
        require_shardable(TrainConfig.model_validate(fields), Launch(0, processes, 0, processes))


def test_two_trainings_do_not_share_a_folder(tiny_base: Path, tmp_path: Path) -> None:
    with only_process(tmp_path), pytest.raises(UsageError, match="another process is at work in"):
        train(tiny_config(tiny_base), tmp_path, device="cpu")


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_what_accelerate_would_do_besides_is_refused(
    name: str, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(UsageError, match=rf"asks for {name}.*--training.shard-base"):
        train(tiny_config(tiny_base), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_killed_process_ends_all_and_the_same_command_goes_on(
    tiny_base: Path, tmp_path: Path
) -> None:
    """Bit by bit what was not broken, with dropout, whose random numbers are each process's own,
    and a sharded base model."""
    config = tiny_config(
        tiny_base,
        adapter={"lora_dropout": 0.2},
        data={"curriculum": (144,), "replay": 0.3, "length_jitter": 0.05},
        training={"max_steps": 8, "learning_rate": 1e-2, "save_steps": 4, "shard_base": True},
    )
    broken = train_together({"killed": config}, tmp_path, 5)
    assert broken.returncode != 0
    killed = tmp_path / "killed"
    assert not (killed / "gist.json").exists()
    assert latest_checkpoint(killed) == killed / "checkpoint-4"
    done = train_together({"killed": config, "unbroken": config}, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert metrics(killed) == metrics(tmp_path / "unbroken")
    assert "Resumed at step 4." in (killed / "training.md").read_text(encoding="utf-8")
    ours, theirs = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("killed", "unbroken")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    states = [killed / "checkpoint-8" / f"rng_state_{rank}.pth" for rank in (0, 1)]
    assert states[0].read_bytes() != states[1].read_bytes(), "dropout of its own in each"


@pytest.mark.slow
def test_a_refusal_is_said_once_and_writes_nothing(tiny_base: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_base, training={"per_device_train_batch_size": 3})
    file = tmp_path / "config.yaml"
    file.write_text(config.model_dump_json(), encoding="utf-8")  # JSON is YAML
    words = ("-m", "gistbench", "train", "--device", "cpu", "--config", str(file))
    done = torchrun(*words, "--output", str(tmp_path / "run"), cwd=tmp_path)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("gistbench: ")]
    assert len(said) == 1 and "cannot be shared evenly by 2 processes" in said[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_like_one(tiny_base: Path, tmp_path: Path) -> None:
    """By NCCL, in float32."""
    done = train_together(configurations(tiny_base), tmp_path, device="cuda")
    assert done.returncode == 0, done.stderr[-3000:]
    for name, config in configurations(tiny_base).items():
        train(whole(config), tmp_path / "one" / name, device="cuda")
        ours, theirs = metrics(tmp_path / name), metrics(tmp_path / "one" / name)
        assert [entry["loss"] for entry in ours] == pytest.approx(
            [entry["loss"] for entry in theirs], rel=1e-3
        ), name
        log = (tmp_path / name / "training.md").read_text(encoding="utf-8")
        assert f"device: 2 x {torch.cuda.get_device_name()}" in log
