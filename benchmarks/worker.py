"""The process that one system runs in: loads it, warms up, then runs whenever told to.

    python -m pairscore.benchmarks.worker SPECIFICATION.json

The specification names a function of `loaders.py`. Every answer is one JSON line on standard output; whatever a library
prints goes to standard error instead. This module and `loaders.py` import nothing that a peer's own environment lacks.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from pairscore.benchmarks import loaders

WARM_UP_PAIRS = 32


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    specification = json.loads(Path(sys.argv[1]).read_text())
    pairs = [(claim, evidence) for claim, evidence in json.loads(Path(specification["pairs"]).read_text())]
    try:
        predict = getattr(loaders, specification["loader"])(
            loaders.Files(**specification["files"]), **specification["arguments"]
        )
        seconds = min(_timed(predict, pairs[:WARM_UP_PAIRS])[0] for _ in range(2))
    except Exception as error:  # whatever a peer raises is its reason for not running
        answer({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})
        return
    answer({"warm_up_seconds_per_pair": seconds / max(1, len(pairs[:WARM_UP_PAIRS]))})
    for line in sys.stdin:
        rows = json.loads(line)
        try:
            seconds, (logits, statistics) = _timed(predict, pairs if rows is None else [pairs[row] for row in rows])
        except Exception as error:  # as above
            answer({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})
            return
        np.save(specification["logits"], np.asarray(logits, dtype=np.float32))
        answer({"seconds": seconds, "statistics": statistics, "peak_memory_bytes": peak_memory()})


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    # ru_maxrss also counts the parent's pages before this program was executed, so the kernel's own figure is better.
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _timed(predict: loaders.Predict, pairs: loaders.Pairs) -> tuple[float, tuple[Any, dict[str, float]]]:
    started = time.perf_counter()
    result = predict(pairs)
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
