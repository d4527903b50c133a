"""Where and with what a run happened: versions, commit and device, but nobody's name or folders."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from gistbench.measurement.nvml import NvmlDevice, cuda_index, cuda_uuid
from gistbench.records import NotMeasured, Provenance

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "lm_eval",
    "bitsandbytes",
    "liger-kernel",
    "tokenizers",
    "safetensors",
    "numpy",
    "datasets",
    "kvpress",
    "sentence-transformers",
    "usearch",
    "bm25s",
)

_PACKAGE = Path(__file__).resolve().parents[1]
_GIT_SECONDS = 20.0
_GIT_ELSEWHERE = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX"}
"""Variables set inside hooks, which would point git at another checkout."""


def provenance(device: str, repository: Path | None = None) -> Provenance:
    """Describe this process. Never raises: what cannot be found out is None or left out.

    Args:
        device: Where the model runs: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        repository: The checkout whose commit counts; None takes the one that holds this package,
            if it lies in one.
    """
    commit, dirty = git_state(repository)
    name, driver, cuda, total = _gpu(device)
    return Provenance(
        gistbench_version=_own_version(),
        git_commit=commit,
        git_dirty=dirty,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        packages=package_versions(),
        device=device,
        device_name=name or cpu_name(),
        num_cpu_cores=num_cpu_cores(),
        driver_version=driver,
        cuda_version=cuda,
        device_total_bytes=total,
    )


def git_state(repository: Path | None = None) -> tuple[str | None, bool | None]:
    """The commit of a checkout and whether tracked files differ from it.

    Args:
        repository: As for `provenance`. An installed package that merely lies below some other
            project's checkout has no commit.

    Returns:
        (None, None) where there is no checkout, no commit or no git.
    """
    if repository is None:
        top = _git(_PACKAGE.parent, "rev-parse", "--show-toplevel")
        if top is None or Path(top).resolve() != _PACKAGE.parent:
            return None, None
        repository = _PACKAGE.parent
    commit = _git(repository, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None, None
    changes = _git(repository, "status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else bool(changes)


def num_cpu_cores() -> int:
    """Cores this process may use: its affinity, further limited by a container's quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        cores = os.cpu_count() or 1
    # A system without such a limit has no such file, or one of another form.
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


def cpu_name() -> str:
    """The processor's model name, or its architecture where the system gives no name."""
    with suppress(OSError, UnicodeDecodeError):  # Linux alone has it
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return " ".join(value.split())
    return platform.processor() or platform.machine() or "unknown processor"


def _gpu(device: str) -> tuple[str | None, str | None, str | None, int | None]:
    """Name, driver version, CUDA version that torch was built for, and total bytes of a GPU."""
    if device.partition(":")[0] != "cuda":
        return None, None, None, None
    try:
        import torch

        properties = torch.cuda.get_device_properties(cuda_index(torch, device))
        uuid = cuda_uuid(torch, device)
        name, total, cuda = str(properties.name), int(properties.total_memory), torch.version.cuda
    except Exception:
        return "a GPU that torch cannot describe", None, None, None
    opened = NvmlDevice.open(uuid)
    if isinstance(opened, NotMeasured):
        return name, None, cuda, total
    try:
        return name, opened.driver_version(), cuda, opened.memory().total_bytes
    except Exception:
        return name, opened.driver_version(), cuda, total
    finally:
        opened.close()


def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on, as far as they are installed."""
    return {name: version for name in PACKAGES if (version := _version(name))}


def _own_version() -> str:
    import gistbench

    # Run from a checkout that nobody installed, only the package itself can tell.
    return _version("gistbench") or str(getattr(gistbench, "__version__", "unknown"))


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of a git command that only reads, or None if it fails."""
    clean = {name: value for name, value in os.environ.items() if name not in _GIT_ELSEWHERE}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            env=clean | {"GIT_OPTIONAL_LOCKS": "0"},
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
