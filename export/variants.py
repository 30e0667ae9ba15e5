"""How each precision's graph is made: one builder a precision."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pairscore.export.graphs.editing import data_file
from pairscore.export.graphs.exporter import GRAPH_NAME, export_graph, input_names
from pairscore.export.graphs.fp16 import write_fp16
from pairscore.export.graphs.rewrites import rewrite_file
from pairscore.export.model import load_model, logits_model
from pairscore.export.reference import Reference
from pairscore.runtime.bundle.manifest import Variant
from pairscore.runtime.bundle.parity import ParityReport
from pairscore.runtime.machine import processor_name

GRAPH_FOLDER = "onnx"


def build_fp32(reference: Reference, folder: Path, exporter: str = "auto") -> Variant:
    """The model in fp32 after exact rewrites, at `onnx/model.onnx`: inputs and outputs are as optimum makes them."""
    reference.release()  # what is traced is loaded by itself
    written, note = export_graph(load_model(reference.checkpoint), folder / GRAPH_FOLDER, exporter)
    notes = (note, *rewrite_file(written[0]))
    files = tuple(path.relative_to(folder).as_posix() for path in written)
    return unmeasured(folder, "fp32", files, ("onnxruntime", "openvino"), notes)


def build_bf16(reference: Reference, folder: Path) -> Variant:
    """The fp32 graph, which is in `folder` already, computed in bf16 by an engine that can."""
    del reference
    graph = folder / GRAPH_FOLDER / GRAPH_NAME
    files = tuple(path.relative_to(folder).as_posix() for path in (graph, data_file(graph)) if path.is_file())
    return unmeasured(folder, "bf16", files, ("openvino",), ("bf16: the fp32 graph, computed in bf16",))


def build_fp16(reference: Reference, folder: Path) -> Variant:
    """The fp32 graph, which is in `folder` already, without padding where possible, converted to fp16."""
    written, note = write_fp16(logits_model(reference), folder / GRAPH_FOLDER / GRAPH_NAME, reference.max_length)
    files = tuple(path.relative_to(folder).as_posix() for path in written)
    return unmeasured(folder, "fp16", files, ("onnxruntime",), (note, "fp16: weights and arithmetic in half precision"))


# Precision -> builder: (loaded reference, bundle folder) -> the variant that it made there of the fp32 graph.
BUILDERS: dict[str, Callable[[Reference, Path], Variant]] = {"bf16": build_bf16, "fp16": build_fp16}

# int8 has several candidates, and measurements choose among them: see `gate.py`.
PRECISIONS = ("fp32", *BUILDERS, "int8")


def unmeasured(  # noqa: PLR0917
    folder: Path,
    precision: str,
    files: tuple[str, ...],
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
        files=files,
        inputs=input_names(folder / files[0]) if inputs is None else inputs,
        engines=engines,
        parity=ParityReport(0, 0.0, 0.0, 0.0, None, None, ()),
        measured_on=processor_name(),
        notes=notes,
        settings=settings or {},
    )
