"""What every rewrite of a graph needs: files of any size, attributes of nodes, and nodes in order.

Protocol Buffers end at 2 GiB. The weights of a larger graph lie in a file beside it, and a rewrite reads and writes the
graph alone: it never holds them in memory.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir
from onnx import external_data_helper, helper, numpy_helper
from onnx_ir.passes.common import RemoveUnusedNodesPass, TopologicalSortPass

# Bytes of weights beyond which they lie outside of the graph.
LARGEST_GRAPH = 1_500_000_000
# Smaller tensors stay in the graph all the same: rewrites read them.
SMALLEST_OUTSIDE = 1 << 20
# The domain of ONNX Runtime's own operations.
MICROSOFT = "com.microsoft"


def load_graph(path: Path) -> onnx.ModelProto:
    """The graph at `path`; of weights outside only where they are."""
    return onnx.load(str(path), load_external_data=False)


def save_graph(model: onnx_ir.Model, path: Path) -> tuple[Path, ...]:
    """Write a graph; large weights one by one, into a file beside it. Returns the files, the graph first."""
    data = data_file(path)
    weights = [each.const_value for each in model.graph.initializers.values() if each.const_value is not None]
    if sum(each.nbytes for each in weights) > LARGEST_GRAPH:
        onnx_ir.save(model, path, external_data=data.name, size_threshold_bytes=SMALLEST_OUTSIDE)
    else:
        onnx_ir.save(model, path)
    return (path, data) if data.is_file() else (path,)


def data_file(graph: Path) -> Path:
    """Where the weights outside of a graph lie, as optimum names it."""
    return graph.with_name(graph.name + "_data")


def is_outside(tensor: onnx.TensorProto) -> bool:
    """Whether the numbers of a weight are outside of its graph."""
    return bool(external_data_helper.uses_external_data(tensor))


def array_of(tensor: onnx.TensorProto, folder: Path | None) -> npt.NDArray[Any]:
    """The numbers of a weight, read when they are used where they are outside, in a file of `folder`."""
    if not is_outside(tensor):
        return numpy_helper.to_array(tensor)
    place = external_data_helper.ExternalDataInfo(tensor)
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    path = (folder or Path()) / place.location
    return np.memmap(path, kind, "r", offset=place.offset or 0, shape=tuple(tensor.dims))


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of a node's attribute."""
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


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
