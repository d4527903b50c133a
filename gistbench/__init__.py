"""gistbench: a benchmark harness for gist-token context compression of language models."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gistbench")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0.1.0"

__all__ = ["__version__"]
