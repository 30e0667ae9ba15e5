"""The machine: its processor, cores, GPUs and memory, what is installed on it, and where caches go."""

import os
import platform
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pairscore.runtime.errors import PairscoreError, one_line

CACHE_VARIABLE = "PAIRSCORE_CACHE"
# Those that decide what an export or a training gives.
_DECISIVE = (
    "pairscore",
    "torch",
    "transformers",
    "sentence-transformers",
    "optimum-onnx",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "pairscore-kernels",
    "tokenizers",
    "numpy",
)


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
    return _read_value(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine()


def gpu_names() -> list[str]:
    """The GPUs that NVIDIA's driver lists, in its order. Empty without the driver and on systems other than Linux."""
    return [_read_value(path, "Model") for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]


def peak_memory_bytes() -> int | None:
    """The largest resident set of this process so far; None where the system does not tell."""
    # Linux's getrusage still counts the process that started this one, up to its exec.
    peak = _read_value(Path("/proc/self/status"), "VmHWM")
    if peak:
        return int(peak.split()[0]) * 1024
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024


def installed_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Distribution -> release, of those that are installed, in the order given."""
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def library_versions() -> dict[str, str]:
    """Library -> release, of those that are installed and decide what an export or a training gives."""
    return {"python": platform.python_version(), **installed_versions(_DECISIVE)}


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """A module that an extra brings. Raises PairscoreError, naming the extra, where it does not import.

    purpose: what needs it, as the subject of the message's sentence.
    """
    try:
        return import_module(module)
    except ImportError as error:
        name = module.replace("_", "-")
        raise PairscoreError(
            f"{purpose} needs {name}, which does not import ({one_line(error)}): `pip install pairscore[{extra}]`"
        ) from error


def require_modules(modules: Iterable[str], purpose: str, extra: str) -> None:
    """Raise PairscoreError, naming the extra that brings them, unless all of these modules are there.

    purpose: what needs them, as the subject of the message's sentence.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise PairscoreError(
            f'{purpose} needs what is not installed ({", ".join(missing)}): `pip install "pairscore[{extra}]"`'
        )


def cache_folder() -> Path:
    """`PAIRSCORE_CACHE`, else `pairscore` in `XDG_CACHE_HOME`, else in `~/.cache`."""
    own = os.environ.get(CACHE_VARIABLE)
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pairscore"


def _read_value(path: Path, name: str) -> str:
    """What the first line `name: value` of one of the system's files says; "" where there is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
