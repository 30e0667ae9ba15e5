"""What a measurement was taken on: written into every result file."""

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pairscore.export.environment import library_versions, processor_name
from pairscore.runtime.engines import available_cores

# The instruction sets that decide the speed of matrix products.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def environment() -> dict[str, Any]:
    """Processor, cores, library releases, commit and time."""
    return {
        "processor": processor_name(),
        "instruction_sets": instruction_sets(),
        "cores": available_cores(),
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


def _git(*arguments: str) -> str | None:
    here = Path(__file__).parent
    found = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None
