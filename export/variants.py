"""How each precision's graph is made: one builder a precision."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pairscore.export.checkpoint import Checkpoint
from pairscore.export.graphs.exporter import export_graph, input_names
from pairscore.export.graphs.fp16 import write_fp16
from pairscore.export.graphs.rewrites import rewrite_file
from pairscore.export.reference import Reference, load_eager_model
from pairscore.runtime.bundle.manifest import Variant
from pairscore.runtime.bundle.parity import ParityReport, Tier
from pairscore.runtime.machine import processor_name

GRAPH_FOLDER = "onnx"
GRAPH_NAME = "model.onnx"


@dataclass(frozen=True)
class BuiltVariant:
    """A graph written into a bundle's folder, not measured yet.

    `files`: paths within the bundle, the graph first, then its external data. `engines`: which may run it.
    `notes`: what was done to the graph, one sentence each. `settings`: see `Variant.settings`.
    """

    precision: str
    files: tuple[str, ...]
    engines: tuple[str, ...]
    notes: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)


Builder = Callable[[Checkpoint, Reference, Path], BuiltVariant]


def build_fp32(checkpoint: Checkpoint, reference: Reference, folder: Path) -> BuiltVariant:
    """The model in fp32 after exact rewrites, at `onnx/model.onnx`: inputs and outputs are as optimum makes them."""
    written = export_graph(load_eager_model(checkpoint), folder / GRAPH_FOLDER)
    notes = rewrite_file(written[0])
    files = tuple(path.relative_to(folder).as_posix() for path in written)
    return BuiltVariant("fp32", files, ("onnxruntime", "openvino"), notes)


def build_bf16(checkpoint: Checkpoint, reference: Reference, folder: Path) -> BuiltVariant:
    """The fp32 graph, which is in `folder` already, computed in bf16 by an engine that can."""
    del checkpoint, reference
    graph = folder / GRAPH_FOLDER / GRAPH_NAME
    files = tuple(path.relative_to(folder).as_posix() for path in (graph, graph.with_name(graph.name + "_data")))
    written = tuple(name for name in files if (folder / name).is_file())
    return BuiltVariant("bf16", written, ("openvino",), ("bf16: the fp32 graph, computed in bf16",))


def build_fp16(checkpoint: Checkpoint, reference: Reference, folder: Path) -> BuiltVariant:
    """The fp32 graph, which is in `folder` already, without padding where possible, converted to fp16."""
    del checkpoint
    target, note = write_fp16(folder / GRAPH_FOLDER / GRAPH_NAME, reference.max_length)
    name = target.relative_to(folder).as_posix()
    return BuiltVariant(
        "fp16", (name,), ("onnxruntime", "tensorrt"), (note, "fp16: weights and arithmetic in half precision")
    )


# Precision -> builder: (checkpoint, loaded reference, bundle folder) -> what it wrote there. All but fp32 may read
# the fp32 graph, which every bundle has.
BUILDERS: dict[str, Builder] = {"fp32": build_fp32, "bf16": build_bf16, "fp16": build_fp16}

# Of int8 there are several candidates, and measurements choose: see `gate.py`.
PRECISIONS = (*BUILDERS, "int8")


def unmeasured(built: BuiltVariant, folder: Path, promise: Tier | None) -> Variant:
    """The variant before parity is known: its report covers no pairs yet."""
    return Variant(
        precision=built.precision,
        files=built.files,
        inputs=input_names(folder / built.files[0]),
        engines=built.engines,
        parity=ParityReport(0, 0.0, 0.0, 0.0, None, None, ()),
        measured_on=processor_name(),
        notes=built.notes,
        settings=built.settings,
        promise=promise,
    )
