"""Watch what a run costs: memory from NVML, torch and the host, time, and the environment.

Nothing here knows about models, and importing it loads neither torch nor NVML.
"""

from gistbench.measurement.environment import package_versions, provenance
from gistbench.measurement.nvml import NvmlDevice
from gistbench.measurement.sampler import MemorySampler
from gistbench.measurement.sources import Snapshot
from gistbench.measurement.timing import Stopwatch, synchronize, timed

__all__ = [
    "MemorySampler",
    "NvmlDevice",
    "Snapshot",
    "Stopwatch",
    "package_versions",
    "provenance",
    "synchronize",
    "timed",
]
