"""A PyTorch model as an ONNX graph, by one of two exporters.

Optimum's exporter needs a new release for each release of transformers; PyTorch's own goes with any. Both give a graph
with dynamic batch and length from the same modules; everything behind this seam takes either.
"""

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import onnx_ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from pairscore.export.graphs.editing import LARGEST_GRAPH, save_graph
from pairscore.export.model import LogitsModel
from pairscore.export.reference import quiet
from pairscore.runtime.errors import PairscoreError, one_line
from pairscore.runtime.machine import installed_versions

EXPORTERS = ("auto", "optimum", "torch")
GRAPH_NAME = "model.onnx"
# PyTorch's. The first opset that has GELU as one operation, which ONNX Runtime then fuses with the bias before it.
_OPSET = 20
# (batch, length) of the example: no size of a layer, so that none is taken for a constant. Axes as optimum names them.
_EXAMPLE = (3, 11)
_AXES = {0: "batch_size", 1: "sequence_length"}


def choose_exporter(asked: str, stack: bool = False, *, weights: int = 0) -> str:
    """The exporter to use. `auto` takes optimum's where it is installed, else PyTorch's.

    stack: whether the model is a stack of modules, which only PyTorch's exporter takes. weights: their size in bytes;
    `auto` gives large ones to PyTorch's exporter, which does not copy them. Raises PairscoreError for an
    exporter that does not exist, is not installed or cannot do it.
    """
    if asked not in EXPORTERS:
        raise PairscoreError(f"unknown exporter {asked!r}: use {', '.join(EXPORTERS)}")
    packages = {"optimum": "optimum-onnx", "torch": "onnxscript"}
    if asked == "auto":
        asked = "optimum" if _found(packages["optimum"]) and not stack and weights <= LARGEST_GRAPH else "torch"
    if stack and asked == "optimum":
        raise PairscoreError("optimum's exporter takes no stack of modules: use --exporter torch")
    if not _found(packages[asked]):
        raise PairscoreError(
            f"--exporter {asked} needs {packages[asked]}, which is not installed: `pip install "
            f'"pairscore[{"optimum" if asked == "optimum" else "export"}]"`'
        )
    return asked


def export_graph(model: LogitsModel, folder: Path, exporter: str = "auto") -> tuple[tuple[Path, ...], str]:
    """Write `model` as `folder`/model.onnx, batch and length dynamic.

    Returns the files written, the graph first, then its external data where it is too large for one file; and a
    sentence about the exporter. Raises PairscoreError for an architecture that the exporter cannot export.
    """
    exporter = choose_exporter(exporter, model.stacked)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        try:
            written = (_by_optimum if exporter == "optimum" else _by_torch)(model, folder / GRAPH_NAME)
        except Exception as error:  # an unknown architecture, or a tracing failure of any kind
            others = " or --exporter ".join(each for each in EXPORTERS if each not in ("auto", exporter))
            raise PairscoreError(
                f"the exporter {exporter} cannot export {type(model.transformer).__name__} ({one_line(error)}): use an "
                f"architecture that it supports, or --exporter {others}"
            ) from error
    opset = onnx_ir.load(written[0]).opset_imports[""]
    by = f"optimum-onnx {version('optimum-onnx')}" if exporter == "optimum" else f"PyTorch {version('torch')}"
    return written, f"exported by {by}, opset {opset}"


def input_names(graph: Path) -> tuple[str, ...]:
    """The names of a graph's inputs, in its order."""
    return tuple(str(value.name) for value in onnx_ir.load(graph).graph.inputs)


def _by_optimum(model: LogitsModel, target: Path) -> tuple[Path, ...]:
    """TorchScript traces, and a table of what each architecture takes; the opset is optimum's choice."""
    from optimum.exporters.onnx import onnx_export_from_model

    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        # No validation of optimum's own: parity on real pairs follows, and says more.
        onnx_export_from_model(model.transformer, scratch, task="text-classification", do_validation=False)
        written = sorted(path for path in Path(scratch).iterdir() if path.name.startswith(target.name))
        return tuple(Path(shutil.move(path, target.parent / path.name)) for path in written)


def _by_torch(model: LogitsModel, target: Path) -> tuple[Path, ...]:
    """`torch.export`, translated to ONNX by onnxscript."""
    example = torch.arange(5, 5 + _EXAMPLE[0] * _EXAMPLE[1]).reshape(_EXAMPLE)
    types = {"attention_mask": torch.ones_like(example), "token_type_ids": torch.zeros_like(example)}
    with torch.no_grad():
        program = torch.onnx.export(
            model,
            tuple(types.get(name, example) for name in model.inputs),
            input_names=list(model.inputs),
            output_names=["logits"],
            dynamic_shapes=tuple(_AXES for _ in model.inputs),
            opset_version=_OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter gave nothing")
    weights = list(program.model.graph.initializers.values())
    program.optimize()
    # The exporter notes the source lines of every node beside it, with this machine's paths.
    ClearMetadataAndDocStringPass()(program.model)
    # All inputs have one shape: a graph may do without the others.
    inputs = program.model.graph.inputs
    for node in program.model.graph:
        if node.op_type == "Shape" and node.inputs[0] in inputs:
            node.replace_input_with(0, inputs[0])
    written = save_graph(program.model, target)
    # onnxscript's rules keep the last graph, and with it the weights of a model that nobody needs any more.
    for value in (*weights, *program.model.graph.initializers.values()):
        value.const_value = None
    return written


def _found(distribution: str) -> bool:
    return bool(installed_versions([distribution]))
