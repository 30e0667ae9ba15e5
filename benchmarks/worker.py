"""The process that one system runs in: loads it, then runs whenever told to.

    python -m pairscore.benchmarks.worker SPECIFICATION.json

The specification names a function of `loaders.py`, or MODULE.FUNCTION of another module here. Every answer is one JSON
line on standard output; whatever a library prints goes to standard error instead. This module and those with loaders
import nothing that a peer's own environment lacks.
"""

import json
import os
import resource
import sys
import time
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from pairscore.benchmarks import loaders

# Distribution -> module.
LIBRARIES = {
    "ctranslate2": "ctranslate2",
    "fastembed": "fastembed",
    "flashrank": "flashrank",
    "infinity-emb": "infinity_emb",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "onnxruntime-gpu": "onnxruntime",
    "openvino": "openvino",
    "optimum": "optimum",
    "pairscore-kernels": "pairscore_kernels",
    "sentence-transformers": "sentence_transformers",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "transformers": "transformers",
}
# Once loaded, and before each timed run.
LEAD_IN_PAIRS = 16


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    specification = json.loads(Path(sys.argv[1]).read_text())
    pairs = [(claim, evidence) for claim, evidence in json.loads(Path(specification["pairs"]).read_text())]
    timed = pairs[: specification.get("timed")]
    with loaders.CLOSING:
        try:
            predict = _loaded(specification)
            predict(timed[:LEAD_IN_PAIRS])  # some libraries load the rest then
            answer({"versions": _versions()})
            for line in sys.stdin:
                rows = json.loads(line)
                chosen = timed if rows is None else [pairs[row] for row in rows]
                predict(chosen[:LEAD_IN_PAIRS])  # wakes the threads and fills the caches, which others have emptied
                started = time.monotonic()
                logits, statistics = predict(chosen)
                ended = time.monotonic()
                np.save(specification["logits"], np.asarray(logits, dtype=np.float32))
                answer(
                    {
                        "started": started,
                        "ended": ended,
                        "statistics": statistics,
                        "peak_memory_bytes": peak_memory(),
                    }
                )
        except Exception as error:  # whatever a peer raises is its reason for not running
            answer({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})


def _versions() -> dict[str, str]:
    """Library -> release, of those whose code this process has loaded and that decide its speed."""
    found = {}
    for name, module in LIBRARIES.items():
        if module in sys.modules:
            with suppress(PackageNotFoundError):
                found[name] = version(name)
    return found


def _loaded(specification: dict[str, Any]) -> loaders.Predict:
    module, _, function = specification["loader"].rpartition(".")
    load = getattr(import_module(f"pairscore.benchmarks.{module or 'loaders'}"), function)
    predict: loaders.Predict = load(loaders.Files(**specification["files"]), **specification["arguments"])
    return predict


def peak_memory() -> int:
    """The largest resident size so far of this process and of each that it started, in bytes."""
    # ru_maxrss also counts the parent's pages before this program was executed, so the kernel's own figure is better.
    found = [_peak_of(path / "status") for path in (Path("/proc/self"), *children_of("self"))]
    if found[0] is not None:
        return sum(size or 0 for size in found)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def children_of(process: int | str) -> list[Path]:
    """The folders below /proc of the processes that one has started; none where the system has no such folders."""
    found = []
    for children in (Path("/proc") / str(process) / "task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            found += [Path("/proc") / number for number in children.read_text().split()]
    return found


def _peak_of(status: Path) -> int | None:
    """None where the system keeps no such file, and where the process has ended."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)


if __name__ == "__main__":
    main()
