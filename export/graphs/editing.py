"""What every rewrite of a graph needs: files of any size, attributes of nodes, sessions, and nodes in order.

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
import onnxruntime as ort
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


def save_graph(model: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """Write a graph that holds its weights. Returns the files, the graph first."""
    if model.ByteSize() <= LARGEST_GRAPH:
        onnx.save(model, str(path))
        return (path,)
    data = data_file(path)
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=data.name,
        size_threshold=SMALLEST_OUTSIDE,
    )
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


def session_of(
    model: onnx.ModelProto,
    folder: Path | None = None,
    level: ort.GraphOptimizationLevel = ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
) -> ort.InferenceSession:
    """A quiet session on the CPU. folder: of the weights outside. level: how much ONNX Runtime may change the graph;
    below "all", tensors stay.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = level
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
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
