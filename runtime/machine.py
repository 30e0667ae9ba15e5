"""The machine: its processor, the cores that this process may use, its GPUs, and where caches go."""

import os
import platform
from pathlib import Path

CACHE_VARIABLE = "PAIRSCORE_CACHE"


def available_cores() -> int:
    """Cores that this process may use: those of its affinity mask, or fewer if a control group's quota is lower."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no control group, or not Linux: the mask stands
    return cores


def processor_name() -> str:
    """The processor's marketing name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), "") or platform.processor() or platform.machine()


def gpu_names() -> list[str]:
    """The GPUs that NVIDIA's driver lists, in its order. Empty without the driver and on systems other than Linux."""
    names = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
    return names


def cache_folder() -> Path:
    """`PAIRSCORE_CACHE`, else `pairscore` in `XDG_CACHE_HOME`, else in `~/.cache`."""
    own = os.environ.get(CACHE_VARIABLE)
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pairscore"
