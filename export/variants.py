"""How each precision's graph is made: one builder a precision."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pairscore.export.graphs.editing import data_file, save_graph
from pairscore.export.graphs.exporter import GRAPH_NAME, export_graph, input_names
from pairscore.export.graphs.fp16 import fp16_graph
from pairscore.export.graphs.rewrites import rewrite_file
from pairscore.export.model import LogitsModel, load_model
from pairscore.export.reference import Reference
from pairscore.runtime.bundle.manifest import Variant
from pairscore.runtime.bundle.parity import ParityReport
from pairscore.runtime.machine import processor_name

GRAPH_FOLDER = "onnx"


def build_fp32(reference: Reference, folder: Path, exporter: str = "auto") -> Variant:
    """The model in fp32 after exact rewrites, at `onnx/model.onnx`: inputs and outputs are as optimum makes them."""
    reference.release()  # what is traced is loaded by itself
    written, note = export_graph(load_model(reference.checkpoint), folder / GRAPH_FOLDER, exporter)
    return unmeasured(folder, "fp32", written, ("onnxruntime", "openvino"), (note, *rewrite_file(written[0])))


def build_bf16(_: Reference, folder: Path) -> Variant:
    """The fp32 graph, which is in `folder` already, computed in bf16 by an engine that can."""
    graph = folder / GRAPH_FOLDER / GRAPH_NAME
    files = tuple(filter(Path.is_file, (graph, data_file(graph))))
    return unmeasured(folder, "bf16", files, ("openvino",), ("bf16: the fp32 graph, computed in bf16",))


def build_fp16(reference: Reference, folder: Path) -> Variant:
    """The fp32 graph, which is in `folder` already, without padding where possible, converted to fp16."""
    path = folder / GRAPH_FOLDER / GRAPH_NAME
    made, name, note = fp16_graph(LogitsModel(reference.encoder), path, reference.max_length)
    reference.release()  # while a graph is written, its weights are in memory two times more
    notes = (note, "fp16: weights and arithmetic in half precision")
    return unmeasured(folder, "fp16", save_graph(made, path.with_name(name)), ("onnxruntime",), notes)


# Precision -> builder: (loaded reference, bundle folder) -> the variant that it made there of the fp32 graph.
BUILDERS: dict[str, Callable[[Reference, Path], Variant]] = {"bf16": build_bf16, "fp16": build_fp16}


def unmeasured(  # noqa: PLR0917
    folder: Path,
    precision: str,
    files: tuple[Path, ...],
    engines: tuple[str, ...],
    notes: tuple[str, ...] = (),
    settings: Mapping[str, str] | None = None,
    inputs: tuple[str, ...] | None = None,
) -> Variant:
    """A variant whose files are in the bundle at `folder`, before parity is known: its report covers no pairs yet.

    The arguments are its fields. inputs: the model's, where the first file is no graph that says them.
    """
    return Variant(
        precision=precision,
        files=tuple(file.relative_to(folder).as_posix() for file in files),
        inputs=input_names(files[0]) if inputs is None else inputs,
        engines=engines,
        parity=ParityReport(0, 0.0, 0.0, 0.0, None, None, ()),
        measured_on=processor_name(),
        notes=notes,
        settings=settings or {},
    )
