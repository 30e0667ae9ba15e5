"""Which attention kernels ONNX Runtime uses: read from its own log, in a process that was told to keep one."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

# ONNX Runtime prints a line for every attention that it computes, for example
# "Operator=MultiHeadAttention Node=... DataType=fp16 SdpaKernel=FLASH_ATTENTION".
_SWITCH = "ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO"
_LINE = re.compile(r"Operator=(\w+).*?DataType=(\w+) SdpaKernel=(\w+)")
# Opening replays the golden rows, pairs of every length: as many attentions as there are layers for each batch.
_PROGRAM = """
import sys
from pairscore import Scorer
Scorer.from_pretrained(sys.argv[1], precision=sys.argv[2], device=sys.argv[3])
"""


def attention_kernels(bundle: Path, precision: str, device: str) -> list[dict[str, str | int]]:
    """Operator, type and kernel of the attentions that opening a bundle computes, and how often.

    Raises RuntimeError where the bundle does not open. Empty on a CPU, where ONNX Runtime keeps no such log.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(bundle), precision, device],
        env={**os.environ, _SWITCH: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{bundle} does not open on {device}: {done.stderr.strip()[-300:]}")
    return counted_kernels(done.stdout + done.stderr)


def counted_kernels(log: str) -> list[dict[str, str | int]]:
    """The same from the log's text."""
    found = Counter(_LINE.findall(log))
    return [
        {"operator": operator, "type": kind, "kernel": kernel, "count": count}
        for (operator, kind, kernel), count in found.most_common()
    ]
