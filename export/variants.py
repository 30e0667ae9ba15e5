"""How each precision's graph is made: one builder a precision."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pairscore.export.checkpoint import Checkpoint
from pairscore.export.graph import export_graph
from pairscore.export.reference import Reference, load_eager_model
from pairscore.export.rewrites import rewrite_file

GRAPH_FOLDER = "onnx"


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


# Precision -> builder: (checkpoint, loaded reference, bundle folder) -> what it wrote there.
BUILDERS: dict[str, Builder] = {"fp32": build_fp32}
