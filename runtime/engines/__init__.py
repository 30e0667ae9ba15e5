"""One interface, several engines. An engine that was asked for and cannot serve is an error, never replaced."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class EngineOptions:
    """How an engine uses the machine; None where it decides itself. No option changes a score beyond its promise.

    `threads`: cores that a CPU engine computes on, all that this process may use by default. `threads_per_batch`:
    how many of them share one batch, so that `threads // threads_per_batch` batches are computed at once.
    `token_budget`: tokens in a batch. `streams`: batches that a GPU has in hand at once, so that the copies and the
    launches of one hide behind another's computing. `pinned`: a GPU's inputs and outputs go through page-locked memory
    of our own. `settings`: properties by the engine's own names, fixed by the variant.
    """

    threads: int | None = None
    threads_per_batch: int = 1
    token_budget: int | None = None
    streams: int = 2
    pinned: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("threads", "threads_per_batch", "token_budget", "streams"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise PairscoreError(f"{name} is {value}: use at least 1, or leave it out")

    @property
    def callers(self) -> int:
        """Batches that a CPU engine computes at once."""
        return max(1, (self.threads or available_cores()) // self.threads_per_batch)


EngineOpener = Callable[[Path, str, str, EngineOptions], Engine]


@dataclass(frozen=True)
class EngineSpec:
    """Where an engine is found. `module`: has `open_engine`, an EngineOpener. `package`: the Python module that it
    needs. `devices`: kinds that it serves. `graph_of`: the precision whose graph it reads, whatever it computes in;
    None for the variant's own.
    """

    module: str
    package: str
    devices: tuple[str, ...]
    graph_of: str | None = None


ENGINES = {
    "onnxruntime": EngineSpec("pairscore.runtime.engines.onnxruntime", "onnxruntime", ("cpu", "cuda")),
    "openvino": EngineSpec("pairscore.runtime.engines.openvino", "openvino", ("cpu",)),
    "tensorrt": EngineSpec("pairscore.runtime.engines.tensorrt", "tensorrt_libs", ("cuda",), graph_of="fp32"),
}


def choose_engine(name: str, precision: str, device: str, supported: tuple[str, ...]) -> str:
    """The engine of this name, or for "auto" the first of `supported` that is installed and serves the device.

    Raises PairscoreError when it is unknown or not among `supported`.
    """
    if name == "auto":
        kind = device.partition(":")[0]
        fitting = [each for each in supported if kind in ENGINES[each].devices] or list(supported)
        name = next((each for each in fitting if is_installed(each)), fitting[0])
    if name not in ENGINES:
        raise PairscoreError(f"unknown engine {name!r}: use auto, {', '.join(ENGINES)}")
    if name not in supported:
        raise PairscoreError(f"the {precision} variant does not run on {name}: use --engine {supported[0]}")
    return name


def open_engine(
    name: str,
    graph: Path,
    precision: str,
    device: str,
    supported: tuple[str, ...],
    *,
    options: EngineOptions | None = None,
) -> Engine:
    """Open `graph` with the engine that `choose_engine` chooses, once on each of the devices that `device` names.

    A batch that runs out of memory is halved, and the smaller size kept. Raises PairscoreError when the engine
    is unknown, not installed, not among `supported`, or cannot serve the device or the precision.
    """
    from pairscore.runtime.engines.devices import split_devices
    from pairscore.runtime.engines.halving import HalvingEngine
    from pairscore.runtime.engines.spread import SpreadEngine

    devices = split_devices(device)
    name = choose_engine(name, precision, device, supported)
    opener: EngineOpener = import_module(ENGINES[name].module).open_engine
    opened = [HalvingEngine(opener(graph, precision, each, options or EngineOptions())) for each in devices]
    return opened[0] if len(opened) == 1 else SpreadEngine(opened)


def is_installed(engine: str) -> bool:
    """Whether the package of an engine of `ENGINES` is there; nothing is imported."""
    return engine in ENGINES and find_spec(ENGINES[engine].package) is not None


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
