"""Graphs as files of any size.

Protocol Buffers end at 2 GiB. The weights of a larger graph lie in a file beside it, and a rewrite reads and writes the
graph alone: it never holds them in memory.
"""

from pathlib import Path

import onnx_ir

# Bytes of weights beyond which they lie outside of the graph.
LARGEST_GRAPH = 1_500_000_000
# Smaller tensors stay in the graph all the same: rewrites read them.
SMALLEST_OUTSIDE = 1 << 20
# The domain of ONNX Runtime's own operations.
MICROSOFT = "com.microsoft"


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
