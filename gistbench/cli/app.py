"""What every group of commands shares: the application, its devices, its silence."""

from __future__ import annotations

from typing import Any

from cyclopts import App, Group

from gistbench import __version__
from gistbench.config import Device
from gistbench.errors import PrerequisiteError
from gistbench.launch import launched

app = App(
    name="gistbench",
    version=__version__,
    help="Benchmark harness for gist-token context compression: train, run, judge.",
)

FIELDS = Group("Configuration fields", help="Any of these overrides the preset or file.")


def device_of(wanted: Device) -> Any:
    """The device meant; where it is a GPU, this process's own becomes the current one.

    Raises:
        PrerequisiteError: No GPU where one was asked for, or fewer than processes.
    """
    import torch

    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        launch, count = launched(), torch.cuda.device_count()
        if launch.local_processes > count:
            raise PrerequisiteError(
                f"{launch.local_processes} processes each need a GPU of their own and this "
                f"machine has {count}; pass --nproc-per-node {count}"
            )
        torch.cuda.set_device(launch.local_rank)
        return "cuda"
    if wanted == "cuda":
        raise PrerequisiteError(
            "--device cuda needs an NVIDIA GPU that this PyTorch can use, and finds none "
            f"(torch {torch.__version__}); pass --device cpu or install a CUDA build with "
            "`make setup TORCH=...`"
        )
    return "cpu"


def part() -> None:
    """End the group of processes that a launcher started, if this is one of them."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def quiet() -> None:
    """Keep libraries' chatter off the terminal; errors still show."""
    import logging
    import warnings

    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
