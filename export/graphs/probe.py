"""What each tensor of a graph holds, found out by running the graph on two small inputs of different batch and length.

So an axis is known by its size, whatever the architecture and whoever exported the graph.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from pairscore.export.graphs.editing import is_outside, session_of

# (batch, length) of the two inputs: all different primes, so that no two axes have one size.
_PROBES = ((2, 11), (3, 13))


@dataclass(frozen=True)
class Probe:
    """Every tensor's values on two small inputs."""

    values: Sequence[dict[str, npt.NDArray[Any]]]

    @staticmethod
    def of(model: onnx.ModelProto, folder: Path | None = None) -> "Probe":
        """Run the graph twice with every tensor as an output. folder: of the weights outside."""
        traced = deepcopy(model)
        known = {output.name for output in model.graph.output}
        names = [name for node in model.graph.node for name in node.output if name and name not in known]
        traced.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
        session = session_of(traced, folder, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
        outputs = [output.name for output in session.get_outputs()]
        # Of weights outside, only the shape is asked for.
        constants = {
            tensor.name: np.broadcast_to(0, tensor.dims) if is_outside(tensor) else numpy_helper.to_array(tensor)
            for tensor in model.graph.initializer
        }
        values = []
        for batch, length in _PROBES:
            feeds = {value.name: random_feed(value.name, batch, length) for value in session.get_inputs()}
            results = dict(zip(outputs, session.run(outputs, feeds), strict=True))
            values.append(constants | feeds | {name: np.asarray(value) for name, value in results.items()})
        return Probe(values)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value in the first probe."""
        return tuple(self.values[0][name].shape)

    def is_length(self, name: str, axis: int) -> bool:
        """Whether an axis is the sequence's."""
        shapes = [values[name].shape for values in self.values]
        return all(axis < len(shape) for shape in shapes) and [shape[axis] for shape in shapes] == [
            length for _, length in _PROBES
        ]

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """The value of a tensor that is the same in both probes, else None."""
        first, second = (values.get(name) for values in self.values)
        if first is None or second is None or first.shape != second.shape or not np.array_equal(first, second):
            return None
        return first


def random_feed(name: str, batch: int, length: int) -> npt.NDArray[np.int64]:
    """Values for an input of the graph. Shape (batch, length)."""
    match name:
        case "attention_mask":
            return np.ones((batch, length), dtype=np.int64)
        case "token_type_ids":
            return np.zeros((batch, length), dtype=np.int64)
    # Small ids exist in every vocabulary; 0 to 3 are often padding and the like, which some graphs look for.
    return np.random.default_rng(0).integers(5, 50, size=(batch, length))
