"""The engines by name. An engine that was asked for and cannot serve is an error, never replaced."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pairscore.runtime.bundle.manifest import Bundle, Variant
from pairscore.runtime.engines.devices import split_devices
from pairscore.runtime.engines.out_of_memory import HalvingEngine
from pairscore.runtime.engines.protocol import Engine, EngineOptions
from pairscore.runtime.engines.several_devices import SpreadEngine
from pairscore.runtime.errors import PairscoreError

EngineOpener = Callable[[Path, str, str, EngineOptions], Engine]


@dataclass(frozen=True)
class EngineSpec:
    """Where to find an engine. `module`: the module whose `open_engine` opens it. `package`: the Python module that it
    needs. `devices`: the kinds of device that it serves. `shares_batches`: whether several cores can work on one batch.
    """

    module: str
    package: str
    devices: tuple[str, ...]
    shares_batches: bool = True


ENGINES = {
    "onnxruntime": EngineSpec("pairscore.runtime.engines.onnxruntime", "onnxruntime", ("cpu", "cuda")),
    "openvino": EngineSpec("pairscore.runtime.engines.openvino", "openvino", ("cpu",)),
    "native": EngineSpec("pairscore.runtime.engines.native", "pairscore_kernels", ("cpu",), shares_batches=False),
}


def choose_engine(name: str, precision: str, device: str, supported: tuple[str, ...]) -> str:
    """The engine of this name, or for "auto" the first of `supported` that is installed and serves the device.

    Raises PairscoreError when it is unknown or not among `supported`.
    """
    if name == "auto":
        kind = device.partition(":")[0]
        known = [each for each in supported if each in ENGINES]
        if not known:
            raise PairscoreError(
                f"the {precision} variant runs on {', '.join(supported)}, and this release knows {', '.join(ENGINES)}: "
                "upgrade pairscore, or export the bundle again"
            )
        fitting = [each for each in known if kind in ENGINES[each].devices] or known
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
    """Open `graph` on each of the devices that `device` names, with the engine that `choose_engine` chooses.

    A batch that runs out of memory is halved, and the smaller size kept. Raises PairscoreError when the engine
    is unknown, not installed, not among `supported`, or cannot serve the device or the precision.
    """
    devices = split_devices(device)
    name = choose_engine(name, precision, device, supported)
    opener: EngineOpener = import_module(ENGINES[name].module).open_engine
    opened = [HalvingEngine(opener(graph, precision, each, options or EngineOptions())) for each in devices]
    return opened[0] if len(opened) == 1 else SpreadEngine(opened)


def open_variant(
    bundle: Bundle, variant: Variant, engine: str, device: str, options: EngineOptions, *, graph: Path | None = None
) -> Engine:
    """Open a bundle's variant as `open_engine` does, with its own settings, after its files' digests matched.

    graph: of a variant that the bundle does not hold yet.
    """
    name = choose_engine(engine, variant.precision, device, variant.engines)
    graph = graph or bundle.graph(variant)
    options = replace(options, settings=variant.settings)
    return open_engine(name, graph, variant.precision, device, variant.engines, options=options)


def is_installed(engine: str) -> bool:
    """Whether the package of an engine of `ENGINES` is there; nothing is imported."""
    return engine in ENGINES and find_spec(ENGINES[engine].package) is not None
