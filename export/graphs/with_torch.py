"""PyTorch's own exporter: `torch.export`, translated to ONNX by onnxscript."""

from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch

from pairscore.export.graphs.editing import LARGEST_GRAPH, SMALLEST_OUTSIDE, data_file, load_graph
from pairscore.export.model import LogitsModel

# The first that has GELU as one operation, which ONNX Runtime then fuses with the bias before it.
_OPSET = 20
# (batch, length) of the example: no size of a layer, so that none is taken for a constant.
_EXAMPLE = (3, 11)
_AXES = {0: "batch_size", 1: "sequence_length"}  # as optimum names them


def export(model: LogitsModel, target: Path) -> tuple[Path, ...]:
    """Write the graph. Returns the files written, the graph first, then its external data where it is too large."""
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
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter gave nothing")
    outside = sum(weight.nbytes for weight in model.parameters()) > LARGEST_GRAPH
    data = data_file(target)
    if outside:
        onnx_ir.save(program.model, target, external_data=data.name, size_threshold_bytes=SMALLEST_OUTSIDE)
    graph = load_graph(target) if outside else program.model_proto
    _forget_origins(graph)
    _measure_one_input(graph)
    onnx.save(graph, str(target))
    return (target, data) if data.is_file() else (target,)


def _forget_origins(graph: onnx.ModelProto) -> None:
    """Remove what the exporter notes beside the graph: the source lines of every node, with this machine's paths."""
    named: list[Any] = [graph, graph.graph, *graph.graph.node, *graph.graph.input, *graph.graph.output]
    for each in [*named, *graph.graph.value_info, *graph.graph.initializer]:
        del each.metadata_props[:]
        each.doc_string = ""


def _measure_one_input(graph: onnx.ModelProto) -> None:
    """Take every shape of the first input, whose shape all inputs have: so that a graph may do without the others."""
    inputs = {value.name for value in graph.graph.input}
    for node in graph.graph.node:
        if node.op_type == "Shape" and node.input[0] in inputs:
            node.input[0] = graph.graph.input[0].name
