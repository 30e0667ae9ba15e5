"""Read an ONNX graph backwards, in small steps that hold whoever exported it.

What adds a bias to a product with constant weights is a linear layer, whatever its nodes are called or its weights'
layout is; a function between two linear layers is the activation whose values it has on two probes; a tensor that only
reshapes another, or takes its first rows, stands for it.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
import torch

from pairscore.export.graphs.editing import attribute
from pairscore.export.graphs.encoder import ACTIVATIONS, HeadLayer, Linear, Norm
from pairscore.export.graphs.probe import Probe
from pairscore.runtime.types import FloatArray

# An activation, or a mean, is the one that differs least, and by no more than this.
_VALUE_TOLERANCE = 1e-5
_VIEWS = frozenset(
    {"Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Transpose"}
)
ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Erf", "Tanh", "Relu", "Gelu", "Sigmoid", "Sqrt", "Max", "Min", "Clip", "Where"}
    | {"Identity", "Cast", "Neg", "Exp", "Softplus", "Elu", "Selu", "Celu", "HardSwish", "Mish", "Abs", "Reciprocal"}
)
# Operations that take apart, join and turn tensors; their other inputs are sizes and places.
REARRANGING = _VIEWS | {"Split", "Concat"}
# What may stand between the rows of the last layer and their mean.
_AVERAGING = ELEMENTWISE | {"ReduceSum", "ReduceMean"}


Value = TypeVar("Value", int, float, str)


class NotRecognisedError(Exception):
    """The graph is not the encoder that is looked for; the text says where it differs."""


class GraphReader:
    """A graph, and every tensor's values on the probes."""

    def __init__(self, model: onnx.ModelProto, probe: Probe) -> None:
        self.model = model
        self.probe = probe
        self.producer = {name: node for node in model.graph.node for name in node.output}
        # Of the norms that were read, those of the head left out.
        self.epsilons: set[float] = set()
        self._linears: dict[str, Linear | None] = {}

    def head(self) -> tuple[tuple[HeadLayer, ...], str, str]:
        """The head's layers, whether they read the `first` row or the `mean`, and the norm whose rows these are."""
        found: list[HeadLayer] = []
        name, norm, epsilon = self.model.graph.output[0].name, None, 0.0
        while True:
            linear, activation = self.activated(name, "the head")
            found.insert(0, HeadLayer(linear, activation, norm, epsilon))
            name, norm = self.origin(linear.input), None
            if not self.is_norm(name):
                if (whole := self.averaged(name)) is not None:
                    return tuple(found), "mean", whole
            elif len(self.probe.shape(name)) == 3:
                return tuple(found), "first", name
            else:
                norm, name, epsilon = self.read_norm(name, "the head")

    @staticmethod
    def only(what: str, values: set[Value]) -> Value:
        """The one value that all layers have. Raises NotRecognisedError where they have several."""
        if len(values) > 1:
            raise NotRecognisedError(f"its layers have different {what} ({', '.join(map(str, sorted(values)))})")
        (value,) = values
        return value

    def averaged(self, name: str) -> str | None:
        """The norm's output of Shape (batch, length, columns) whose mean over the length `name` is."""
        for each in self.reached(name, _AVERAGING, self.is_norm):
            if len(self.probe.shape(each)) == 3 and self.probe.is_length(each, 1):
                differences = [np.abs(values[each].mean(axis=1) - values[name]).max() for values in self.probe.values]
                if max(differences) <= _VALUE_TOLERANCE * 10:
                    return each
        return None

    def origin(self, name: str) -> str:
        """The tensor that `name` is only another view of: the same numbers in the same order, or its first row."""
        while (node := self.producer.get(name)) is not None and node.op_type in _VIEWS:
            if node.op_type == "Transpose" or not self.is_view(node.input[0], name):
                break
            name = node.input[0]
        return name

    def is_view(self, whole: str, name: str) -> bool:
        for values in self.probe.values:
            data, view = values[whole], values[name]
            first = data[:, 0] if data.ndim == 3 and view.size != data.size else data
            if first.size != view.size or not np.array_equal(first.ravel(), view.ravel()):
                return False
        return True

    def linear(self, name: str) -> Linear | None:
        """The linear layer whose output is `name`, or None."""
        origin = self.origin(name)
        if origin not in self._linears:
            self._linears[origin] = self._read_linear(origin)
        return self._linears[origin]

    def _read_linear(self, origin: str) -> Linear | None:
        node = self.producer.get(origin)
        bias: npt.NDArray[Any] | None = None
        if node is not None and node.op_type == "Add":
            for constant, product in (node.input, node.input[::-1]):
                bias = self.probe.constant(constant)
                inner = self.producer.get(self.origin(product))
                if bias is not None and inner is not None and inner.op_type == "MatMul":
                    node = inner
                    break
        if node is None or node.op_type not in ("MatMul", "Gemm"):
            return None
        weight = self.probe.constant(node.input[1])
        if weight is None or weight.ndim != 2:
            return None
        if node.op_type == "Gemm":
            if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1:
                return None
            weight = weight if attribute(node, "transB", 0) else weight.T
            bias = self.probe.constant(node.input[2]) if len(node.input) > 2 else None
        else:
            weight = weight.T
        bias = np.zeros(len(weight)) if bias is None else bias
        if bias.size != len(weight):
            return None
        return Linear(node.input[0], as_float(weight), as_float(bias.ravel()))

    def needed(self, name: str, where: str) -> Linear:
        linear = self.linear(name)
        if linear is None:
            raise NotRecognisedError(f"{where} has something else where a linear layer belongs")
        return linear

    def activated(self, name: str, where: str) -> tuple[Linear, str]:
        """The one linear layer that `name` is a function of, element by element, and which function that is."""
        waiting, seen, found = [name], set(), set()
        while waiting:
            each = self.origin(waiting.pop())
            node = self.producer.get(each)
            if each in seen or self.probe.constant(each) is not None:
                continue
            seen.add(each)
            if self.linear(each) is not None:
                found.add(each)
            elif node is not None and node.op_type in ELEMENTWISE:
                waiting.extend(filter(None, node.input))
            else:
                raise NotRecognisedError(
                    f"{where} has {'an input' if node is None else node.op_type} after a linear layer"
                )
        if len(found) != 1:
            raise NotRecognisedError(f"{where} joins {len(found)} linear layers, as gated units do")
        (source,) = found
        differences = {known: self.difference(function, source, name) for known, function in ACTIVATIONS.items()}
        best = min(differences, key=lambda known: differences[known])
        if not differences[best] <= _VALUE_TOLERANCE:
            raise NotRecognisedError(f"the activation of {where} is none of {', '.join(ACTIVATIONS)}")
        return self.needed(source, where), best

    def difference(self, function: Any, source: str, name: str) -> float:
        """Between a function of `source` and `name`, relative to the largest value, over all probes."""
        found = []
        for values in self.probe.values:
            given = function(torch.from_numpy(np.array(values[source], dtype=np.float32))).numpy()
            expected = values[name]
            if given.size != expected.size:
                return float("inf")
            scale = max(1.0, float(np.abs(expected).max()))
            found.append(float(np.abs(given.ravel() - expected.ravel()).max()) / scale)
        return max(found)

    def is_norm(self, name: str) -> bool:
        node = self.producer.get(self.origin(name))
        return node is not None and node.op_type == "LayerNormalization"

    def norm(self, name: str, where: str) -> tuple[Norm, str]:
        """The norm that gives `name`, and the tensor that it reads."""
        norm, read, epsilon = self.read_norm(name, where)
        self.epsilons.add(epsilon)
        return norm, read

    def read_norm(self, name: str, where: str) -> tuple[Norm, str, float]:
        """The norm that gives `name`, the tensor that it reads, and its epsilon."""
        node = self.producer.get(self.origin(name))
        if node is None or node.op_type != "LayerNormalization" or not self.is_last_axis(node):
            raise NotRecognisedError(f"{where} does not end in a layer norm")
        weight = self.probe.constant(node.input[1])
        bias = self.probe.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if weight is None or weight.ndim != 1:
            raise NotRecognisedError(f"the layer norm of {where} has no constant weights")
        read = Norm(as_float(weight), as_float(np.zeros(len(weight)) if bias is None else bias))
        return read, node.input[0], float(attribute(node, "epsilon", 1e-5))

    def is_last_axis(self, node: onnx.NodeProto) -> bool:
        rank = len(self.probe.shape(node.input[0]))
        return int(attribute(node, "axis", -1)) % rank == rank - 1

    def total(self, name: str) -> tuple[str, str] | None:
        """The linear layer's output and the other tensor whose sum `name` is; None where it is no such sum."""
        node = self.producer.get(self.origin(name))
        if node is not None and node.op_type == "Add":
            for linear, other in (node.input, node.input[::-1]):
                if self.linear(linear) is not None and self.probe.constant(other) is None:
                    return linear, self.origin(other)
        return None

    def same(self, name: str, expected: str, what: str) -> None:
        if self.origin(name) != self.origin(expected):
            raise NotRecognisedError(f"{what} reads another tensor than the residual stream")

    def summands(self, name: str) -> list[onnx.NodeProto | None]:
        """The nodes whose outputs `name` is the sum of."""
        node = self.producer.get(self.origin(name))
        if node is None or node.op_type != "Add":
            return [node]
        return [each for summand in node.input for each in self.summands(summand)]

    def reached(self, name: str, through: Collection[str], is_end: Callable[[str], bool]) -> Iterator[str]:
        """The first tensors on each way up from `name` that are an end, where only operations of `through` lie between.

        Of an operation that rearranges, only the tensor that it rearranges is followed.
        """
        waiting, seen = [name], set()
        while waiting:
            each = waiting.pop(0)
            if each in seen:
                continue
            seen.add(each)
            node = self.producer.get(each)
            if is_end(each):
                yield each
            elif node is not None and node.op_type in through:
                one = node.op_type in REARRANGING and node.op_type != "Concat"
                waiting.extend(node.input[:1] if one else filter(None, node.input))

    def depends(self, name: str, wanted: str) -> bool:
        """Whether a tensor's values, not only its shape, come from the input `wanted`."""
        waiting, seen = [name], set()
        while waiting:
            each = waiting.pop()
            if each == wanted:
                return True
            node = self.producer.get(each)
            if each not in seen and node is not None and node.op_type != "Shape":
                waiting.extend(filter(None, node.input))
            seen.add(each)
        return False


def as_float(values: npt.NDArray[Any]) -> FloatArray:
    """In fp32, rows one after another."""
    return np.array(values, dtype=np.float32, order="C")
