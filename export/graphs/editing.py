"""What every rewrite of a graph needs: attributes of nodes, sessions, and nodes put in order again."""

from collections.abc import Iterable
from typing import Any

import onnx
import onnx_ir
import onnxruntime as ort
from onnx import helper
from onnx_ir.passes.common import RemoveUnusedNodesPass, TopologicalSortPass

# Protocol buffers end at 2 GiB; larger graphs keep their weights outside and are left alone.
LARGEST_GRAPH = 1_500_000_000
# The domain of ONNX Runtime's own operations.
MICROSOFT = "com.microsoft"


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of a node's attribute."""
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


def session_of(
    model: onnx.ModelProto, level: ort.GraphOptimizationLevel = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
) -> ort.InferenceSession:
    """A quiet session on the CPU. level: how much ONNX Runtime may change the graph; below "all", tensors stay."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = level
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def with_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> onnx.ModelProto:
    """`model` with `nodes`, each after what it needs; nodes and weights that reach no output are dropped."""
    nodes = list(nodes)
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    if any(node.domain == MICROSOFT for node in nodes) and all(each.domain != MICROSOFT for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    made = onnx_ir.from_proto(model)
    TopologicalSortPass()(made)
    RemoveUnusedNodesPass()(made)
    return onnx_ir.to_proto(made)
