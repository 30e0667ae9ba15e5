"""PyTorch's own exporter: `torch.export`, translated to ONNX by onnxscript."""

from pathlib import Path

import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from pairscore.export.graphs.editing import save_graph
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
    # The exporter notes the source lines of every node beside it, with this machine's paths.
    ClearMetadataAndDocStringPass()(program.model)
    # All inputs have one shape: a graph may do without the others.
    inputs = program.model.graph.inputs
    for node in program.model.graph:
        if node.op_type == "Shape" and node.inputs[0] in inputs:
            node.replace_input_with(0, inputs[0])
    return save_graph(program.model, target)
