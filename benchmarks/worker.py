"""The process that one system runs in: loads it, warms up, then runs whenever told to.

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
from collections.abc import Mapping
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
# Before each timed run, and to see how fast a system is.
LEAD_IN_PAIRS = 16
# A warm-up takes the first pairs that last about so long: after that, nothing is cold.
WARM_UP_SECONDS = 8


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
            answer({"warm_up_seconds": _warm_up(predict, timed), "versions": _versions()})
            for line in sys.stdin:
                rows = json.loads(line)
                chosen = timed if rows is None else [pairs[row] for row in rows]
                predict(chosen[:LEAD_IN_PAIRS])  # wakes the threads and fills the caches, which others have emptied
                before = _processor_seconds()
                seconds, (logits, statistics) = _timed(predict, chosen)
                others = share_of_others(before, _processor_seconds(), seconds)
                np.save(specification["logits"], np.asarray(logits, dtype=np.float32))
                answer(
                    {
                        "seconds": seconds,
                        "others_share": others,
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


def _warm_up(predict: loaders.Predict, pairs: loaders.Pairs) -> float:
    """Seconds that all pairs take once warm, by the last of the passes that were made."""
    few = pairs[:LEAD_IN_PAIRS]
    predict(few)
    seconds = _timed(predict, few)[0] / max(1, len(few))
    some = pairs[: max(LEAD_IN_PAIRS, int(WARM_UP_SECONDS / seconds))]
    return _timed(predict, some)[0] / max(1, len(some)) * len(pairs)


def peak_memory() -> int:
    """The largest resident size so far of this process and of each that it started, in bytes."""
    # ru_maxrss also counts the parent's pages before this program was executed, so the kernel's own figure is better.
    found = [_peak_of(status) for status in (Path("/proc/self/status"), *_children())]
    if found[0] is not None:
        return sum(size or 0 for size in found)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _children() -> list[Path]:
    lists = Path("/proc/self/task").glob("*/children")
    return [Path("/proc") / number / "status" for each in lists for number in each.read_text().split()]


def _processor_seconds() -> tuple[float, float] | None:
    """Processor time of the whole machine, and of this process with those that it started; None where not told."""
    try:
        user, nice, system, _, _, interrupt, soft, stolen = _numbers(Path("/proc/stat"), slice(1, 9))
        own = [_numbers(status.with_name("stat"), slice(13, 15)) for status in _children()]
    except (OSError, ValueError):
        return None
    tick = os.sysconf("SC_CLK_TCK")
    machine = user + nice + system + interrupt + soft + stolen
    return machine / tick, time.process_time() + sum(map(sum, own)) / tick


def _numbers(path: Path, columns: slice) -> list[int]:
    return [int(number) for number in path.read_text().partition("\n")[0].split()[columns]]


def share_of_others(
    before: tuple[float, float] | None, after: tuple[float, float] | None, seconds: float
) -> float | None:
    """The share of the machine's processors that other processes, or other machines on its host, took meanwhile."""
    if before is None or after is None:
        return None
    others = (after[0] - before[0]) - (after[1] - before[1])
    return round(max(0.0, others / seconds / (os.cpu_count() or 1)), 4)


def _peak_of(status: Path) -> int | None:
    """None where the system keeps no such file, and where the process has ended."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)


def _timed(predict: loaders.Predict, pairs: loaders.Pairs) -> tuple[float, tuple[Any, Mapping[str, float]]]:
    started = time.perf_counter()
    result = predict(pairs)
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
