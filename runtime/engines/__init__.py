"""One interface, several engines. An engine that was asked for and cannot serve is an error, never replaced."""

import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.pairs import Batch
from pairscore.runtime.parity import FloatArray


class Engine(Protocol):
    """Runs one graph on one device.

    `callers`: how many threads should call `run` at once. `token_budget`: tokens in a good batch.
    """

    name: str
    device: str
    callers: int
    token_budget: int

    def run(self, batch: Batch) -> FloatArray:
        """Logits of the batch, Shape (n, labels), float32. Safe to call from several threads."""
        ...


EngineOpener = Callable[[Path, str, str, int | None], Engine]

# name -> (module with `open_engine(graph, precision, device, threads)`, the distribution's module, extra to install)
ENGINES = {
    "onnxruntime": ("pairscore.runtime.engines.onnxruntime", "onnxruntime", "cpu"),
}


def open_engine(
    name: str, graph: Path, precision: str, device: str, supported: tuple[str, ...], *, threads: int | None = None
) -> Engine:
    """Open `graph` with the engine of this name, or with the first installed of `supported` for "auto".

    `threads`: how many cores it computes on, all that this process may use by default. A batch that runs out of
    memory is halved, and the smaller size kept. Raises PairscoreError when the engine
    is unknown, not installed, not among `supported`, or cannot serve the device, and for `threads` below 1.
    """
    if threads is not None and threads < 1:
        raise PairscoreError(f"threads is {threads}: use at least 1, or None for every core")
    if name == "auto":
        name = next((each for each in supported if each in ENGINES and find_spec(ENGINES[each][1])), supported[0])
    if name not in ENGINES:
        raise PairscoreError(f"unknown engine {name!r}: use auto, {', '.join(ENGINES)}")
    if name not in supported:
        raise PairscoreError(f"the {precision} variant does not run on {name}: use --engine {supported[0]}")
    opener: EngineOpener = import_module(ENGINES[name][0]).open_engine
    from pairscore.runtime.engines.halving import HalvingEngine

    return HalvingEngine(opener(graph, precision, device, threads))


def available_cores() -> int:
    """Cores that this process may use: its affinity mask, less where a control group's quota is lower."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no control group, or not Linux: the mask stands
    return cores
