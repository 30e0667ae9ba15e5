"""What a measurement was taken on: written into every result file."""

import platform
import subprocess
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pairscore.runtime.machine import available_cores, library_versions, processor_name

# The instruction sets that decide the speed of matrix products.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")

BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}


def environment() -> dict[str, Any]:
    """Processor, cores, GPU, library releases, commit and time."""
    return {
        "processor": processor_name(),
        "instruction_sets": instruction_sets(),
        "cores": available_cores(),
        "gpu": gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": library_versions(),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def instruction_sets() -> list[str]:
    """Those of `INSTRUCTION_SETS` that the processor has; empty where the system does not tell."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return [flag for flag in INSTRUCTION_SETS if flag in flags]


def processor_kind(sets: Collection[str]) -> str:
    """The name of a processor in the committed results, by the instructions that its int8 products can use."""
    if "amx_int8" in sets:
        return "amx"
    if "avx512_vnni" in sets:
        return "vnni"
    if "avx512f" in sets:
        return "avx512"
    return "avx2" if "avx2" in sets else "other"


def onnx_int8_configuration(
    machine: str = platform.machine(), sets: Collection[str] | None = None
) -> Literal["arm64", "avx2", "avx512", "avx512_vnni"]:
    """Which of sentence-transformers' configurations for ONNX int8 its documentation names for a processor.

    `sets`: its instruction sets; None for those of this one.
    """
    known = instruction_sets() if sets is None else sets
    if machine.lower() in ("arm64", "aarch64"):
        return "arm64"
    if "avx512_vnni" in known:
        return "avx512_vnni"
    return "avx512" if "avx512f" in known else "avx2"


def gpu() -> str | None:
    """The names of the GPUs that NVIDIA's driver tells of; None without it."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return "; ".join(done.stdout.split("\n")).strip("; ") or None


def _git(*arguments: str) -> str | None:
    # An installed copy is in no repository of ours, and must not tell another's commit.
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    found = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None
