"""What a run says of its surroundings."""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gistbench.measurement
from gistbench.measurement import environment

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *identity, *arguments]
    subprocess.run(command, check=True, capture_output=True, env=clean)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one committed file."""
    git(tmp_path, "init")
    (tmp_path / "tracked.txt").write_text("one")
    git(tmp_path, "add", "tracked.txt")
    git(tmp_path, "commit", "-m", "first", "--no-gpg-sign")
    return tmp_path


@needs_git
def test_clean_checkout_has_a_commit_and_ignores_untracked_files(checkout):
    (checkout / "untracked.txt").write_text("two")
    commit, dirty = environment.git_state(checkout)
    assert commit is not None and len(commit) == 40
    assert dirty is False


@needs_git
def test_changed_tracked_file_makes_the_checkout_dirty(checkout):
    (checkout / "tracked.txt").write_text("changed")
    assert environment.git_state(checkout)[1] is True


@needs_git
def test_git_variables_of_a_hook_point_nowhere_else(checkout, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("GIT_DIR", str(tmp_path_factory.mktemp("other")))
    assert environment.git_state(checkout)[0] is not None


@needs_git
def test_package_installed_below_another_checkout_has_no_commit(checkout, monkeypatch):
    package = checkout / ".venv" / "site-packages" / "gistbench"
    package.mkdir(parents=True)
    monkeypatch.setattr(environment, "_PACKAGE", package)
    assert environment.git_state() == (None, None)


def test_no_checkout_is_none(tmp_path):
    assert environment.git_state(tmp_path) == (None, None)


def test_no_git_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.git_state(tmp_path) == (None, None)


def test_missing_packages_are_left_out(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", ("pydantic", "no-such-distribution"))
    assert list(environment.provenance("cpu").packages) == ["pydantic"]


def test_cpu_run_names_the_processor_and_no_driver(tmp_path):
    here = environment.provenance("cpu", tmp_path)
    assert here.device_name and here.num_cpu_cores >= 1
    assert here.driver_version is here.cuda_version is here.device_total_bytes is None


def test_gpu_run_names_the_gpu_its_driver_and_its_memory(machine, tmp_path):
    fake = machine(nvml=("GPU-a", "GPU-b"), torch=("b",))
    here = environment.provenance("cuda", tmp_path)
    assert here.device_name == "Fake GPU"
    assert (here.driver_version, here.cuda_version) == ("600.1", "13.0")
    assert here.device_total_bytes == fake.nvml.gpus[1].total
    assert fake.nvml.started == 0


def test_gpu_without_nvml_keeps_what_torch_knows(machine, monkeypatch, tmp_path):
    machine()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    here = environment.provenance("cuda", tmp_path)
    assert here.device_name == "Fake GPU" and here.driver_version is None
    assert here.device_total_bytes == 1000 * 2**20


def test_nobody_and_no_folder_is_named(tmp_path):
    text = environment.provenance("cpu", tmp_path).model_dump_json()
    assert str(tmp_path) not in text and str(Path.home()) not in text
    assert os.getcwd() not in text
    for private in (platform.node(), getpass.getuser()):
        assert f'"{private}"' not in text


def test_importing_the_layer_loads_no_torch_and_no_nvml():
    code = (
        "import sys, gistbench.measurement;"
        "print([m for m in ('torch', 'pynvml', 'gistbench.models') if m in sys.modules])"
    )
    root = Path(gistbench.measurement.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
