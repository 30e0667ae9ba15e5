"""Exact graph rewrites: less work for the same logits.

A rewrite needs to know what each axis of each tensor stands for. ONNX Runtime infers shapes whose dynamic axes have
names, whatever the architecture (`Shapes`); what a rewrite does not understand, it leaves as it was.

A graph without attention mask was tried too, for batches of one length, which have no padding: on two AVX2 cores it
gained nothing that could be told from noise, so one graph serves everybody.
"""

import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

from pairscore.export.graphs.editing import attribute, is_outside, load_graph, with_nodes
from pairscore.runtime.errors import one_line

# Operations that work along some of the axes.
_ON_SOME_AXES = ("Softmax", "LayerNormalization", "ReduceMean", "Slice", "Split", "Concat")
_ELEMENTWISE = frozenset(
    {"Erf", "Tanh", "Sqrt", "Relu", "Sigmoid", "Gelu", "Cast", "Identity", "Neg", "Exp", "Log", "Reciprocal", "Abs"}
    | {"Add", "Sub", "Mul", "Div", "Pow", "Where", "Min", "Max"}
)


@dataclass(frozen=True)
class Shapes:
    """The shape of every tensor, dynamic axes by their names, and the numbers of constants that are in the graph."""

    shapes: Mapping[str, tuple[int | str, ...]]
    constants: Mapping[str, npt.NDArray[Any]]
    length: str

    @staticmethod
    def of(model: onnx.ModelProto) -> "Shapes":
        """Infer them. The first input's second axis is the length. Raises what ONNX Runtime raises, or ValueError."""
        inferred = SymbolicShapeInference.infer_shapes(model, auto_merge=True)
        if inferred is None:
            raise ValueError("the graph's opset is older than 7")
        graph = inferred.graph
        shapes: dict[str, tuple[int | str, ...]] = {each.name: tuple(each.dims) for each in graph.initializer}
        for each in (*graph.value_info, *graph.input, *graph.output):
            shapes[each.name] = tuple(axis.dim_param or axis.dim_value for axis in each.type.tensor_type.shape.dim)
        tensors = {each.name: each for each in graph.initializer if not is_outside(each)}
        tensors |= {node.output[0]: attribute(node, "value", None) for node in graph.node if node.op_type == "Constant"}
        constants = {name: numpy_helper.to_array(each) for name, each in tensors.items() if each is not None}
        return Shapes(shapes, constants, str(shapes[graph.input[0].name][1]))

    def is_length(self, name: str, axis: int) -> bool:
        """Whether an axis is the sequence's."""
        return axis < len(self.shapes[name]) and self.shapes[name][axis] == self.length


@dataclass(frozen=True)
class Rewritten:
    """A graph after a rewrite, and in one sentence what was done or why nothing was."""

    model: onnx.ModelProto
    note: str


def rewrite_file(path: Path) -> tuple[str, ...]:
    """Apply every rewrite to the graph at `path`, in place, and return what was done, a sentence each."""
    model = load_graph(path)
    try:
        rewritten = first_row_only(model)
    except Exception as error:  # ONNX Runtime raises no other where it cannot infer a shape
        return (f"first row only: not applied, its shapes are not known ({one_line(error)})",)
    if rewritten.model is not model:
        onnx.save(rewritten.model, str(path))
    return (rewritten.note,)


def first_row_only(model: onnx.ModelProto) -> Rewritten:
    """Compute only the first token's row wherever the head needs no other.

    The head of a sequence classifier reads `hidden[:, 0]`. So in the last layer only that token's query, attention
    output and feed-forward are needed, while its keys and values stay whole. The selection is moved up from the head
    through every operation that treats rows alike, as far as nothing else needs the other rows. Exact up to the
    order of sums in the matrix products.
    """
    shapes = Shapes.of(model)
    heads = [node for node in model.graph.node if _reads_first_row(node, shapes)]
    narrowing = _Narrowing(model, shapes, frozenset())
    # A selection moves up through every layer by calls in calls, at first; models of 24 layers have thousands of nodes.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 10 * len(model.graph.node)))
    while True:
        places = [narrowing.narrow(head.input[0], 1) for head in heads]
        shared = narrowing.shared()
        if not shared:
            break
        narrowing = _Narrowing(model, shapes, narrowing.stops | shared)
    if not narrowing.products:
        return Rewritten(model, "first row only: not applied, no head that reads the first token was found")
    rewritten = deepcopy(model)
    selections = {head.output[0]: place for head, place in zip(heads, places, strict=True)}
    for node in rewritten.graph.node:
        if node.output[0] in selections:
            node.input[0] = selections[node.output[0]]
    rewritten.graph.initializer.extend(narrowing.constants.values())
    rewritten = with_nodes(rewritten, [*rewritten.graph.node, *narrowing.nodes])
    return Rewritten(rewritten, f"first row only: {narrowing.products} matrix products on one row a pair")


def _reads_first_row(node: onnx.NodeProto, shapes: Shapes) -> bool:
    if node.op_type != "Gather" or attribute(node, "axis", 0) != 1:
        return False
    index = shapes.constants.get(node.input[1])
    data = node.input[0]
    return (
        index is not None
        and index.shape == ()
        and index == 0
        and len(shapes.shapes[data]) == 3
        and shapes.is_length(data, 1)
    )


@dataclass
class _Narrowing:
    """Clones of nodes that compute row 0 of an axis of length instead of all its rows.

    `stops`: tensors that are not computed narrowly but sliced. `products`: how many clones are matrix products.
    """

    model: onnx.ModelProto
    known: Shapes
    stops: frozenset[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._producer = {name: node for node in self.model.graph.node for name in node.output}
        self._narrowed: dict[tuple[str, int], str] = {}
        self._cloned: dict[str, onnx.NodeProto] = {}  # output in the original graph -> clone

    def narrow(self, name: str, axis: int) -> str:
        """The name of a tensor that holds row 0 of `axis` of tensor `name`, the axis kept with size 1."""
        if (name, axis) not in self._narrowed:
            node = self._producer.get(name)
            inputs = None
            if node is not None and self.stops.isdisjoint(node.output):
                inputs = self._narrowed_inputs(node, axis)
            if node is None or inputs is None:
                self._narrowed[name, axis] = self._slice(name, axis)
            else:
                self._narrowed.update(((output, axis), made) for output, made in self._clone(node, inputs))
        return self._narrowed[name, axis]

    def shared(self) -> frozenset[str]:
        """Tensors that were narrowed, and that the graph needs whole all the same: better sliced than computed twice.

        What only asks for a tensor's shape does not count: narrow reshapes have constant shapes.
        """
        found = set()
        for node in self.model.graph.node:
            clone = self._cloned.get(node.output[0])
            for place, name in enumerate(node.input):
                needed_whole = clone is None or clone.input[place] == name
                reads_shape_or_row = node.op_type == "Shape" or _reads_first_row(node, self.known)
                if name in self._cloned and needed_whole and not reads_shape_or_row:
                    found.add(name)
        return frozenset(found)

    @property
    def products(self) -> int:
        return sum(node.op_type == "MatMul" for node in self._cloned.values())

    def _narrowed_inputs(self, node: onnx.NodeProto, axis: int) -> "list[str] | None":
        """The inputs with which `node` gives its narrowed output; None for an operation not understood."""
        if node.op_type in _ELEMENTWISE:
            return self._broadcast(node, axis)
        rule: Callable[[onnx.NodeProto, int], list[str] | None] | None = {
            **dict.fromkeys(_ON_SOME_AXES, self._on_other_axes),
            "MatMul": self._matmul,
            "Transpose": self._transpose,
            "Reshape": self._reshape,
            "Squeeze": self._squeeze,
            "Gather": self._gather_on_another_axis,
        }.get(node.op_type)
        return None if rule is None else rule(node, axis)

    def _broadcast(self, node: onnx.NodeProto, axis: int) -> list[str]:
        rank = len(self.known.shapes[node.output[0]])
        inputs = []
        for name in node.input:
            own_axis = axis - (rank - len(self.known.shapes[name]))
            wide = own_axis >= 0 and self.known.is_length(name, own_axis)
            inputs.append(self.narrow(name, own_axis) if wide else name)
        return inputs

    def _on_other_axes(self, node: onnx.NodeProto, axis: int) -> list[str] | None:
        """Operations that keep the number of axes and treat every row of `axis` alike."""
        rank = len(self.known.shapes[node.input[0]])
        match node.op_type:
            case "LayerNormalization":
                axes: Any = range(attribute(node, "axis", -1) % rank, rank)
            case "Slice":
                axes = self.known.constants.get(node.input[3]) if len(node.input) > 3 else None
            case "ReduceMean":
                axes = attribute(node, "axes", None)
                axes = self.known.constants.get(node.input[1]) if axes is None and len(node.input) > 1 else axes
            case kind:
                axes = attribute(node, "axis", -1 if kind == "Softmax" else 0)
        if axes is None or len(self.known.shapes[node.output[0]]) != rank:
            return None
        if axis in {int(each) % rank for each in np.atleast_1d(axes)}:
            return None
        narrowed = len(node.input) if node.op_type == "Concat" else 1
        return [*(self.narrow(name, axis) for name in node.input[:narrowed]), *node.input[narrowed:]]

    def _matmul(self, node: onnx.NodeProto, axis: int) -> list[str] | None:
        left, right = node.input
        rank = len(self.known.shapes[left])
        if axis != rank - 2 or rank < len(self.known.shapes[right]):
            return None
        return [self.narrow(left, axis), right]

    def _transpose(self, node: onnx.NodeProto, axis: int) -> list[str]:
        rank = len(self.known.shapes[node.input[0]])
        order = attribute(node, "perm", list(range(rank))[::-1])
        return [self.narrow(node.input[0], order[axis])]

    def _reshape(self, node: onnx.NodeProto, axis: int) -> list[str] | None:
        """Only where the axes up to and with `axis` stay: they are copied, and the rest must be constant."""
        data, output = node.input[0], node.output[0]
        before, after = (self.known.shapes[name] for name in (data, output))
        rest = after[axis + 1 :]
        if before[: axis + 1] != after[: axis + 1] or any(isinstance(size, str) for size in rest):
            return None
        shape = np.array([0] * (axis + 1) + list(rest), dtype=np.int64)
        return [self.narrow(data, axis), self._constant(shape)]

    def _squeeze(self, node: onnx.NodeProto, axis: int) -> list[str] | None:
        """Only where the axes that go away are named, by input (since opset 13)."""
        axes = self.known.constants.get(node.input[1]) if len(node.input) > 1 else None
        if axes is None:
            return None
        rank = len(self.known.shapes[node.input[0]])
        kept = [each for each in range(rank) if each not in {int(gone) % rank for gone in axes}]
        return [self.narrow(node.input[0], kept[axis]), node.input[1]]

    def _gather_on_another_axis(self, node: onnx.NodeProto, axis: int) -> list[str] | None:
        data, index = node.input
        gathered = attribute(node, "axis", 0) % len(self.known.shapes[data])
        if self.known.shapes[index] != ():
            return None
        return [self.narrow(data, axis if axis < gathered else axis + 1), index]

    def _slice(self, name: str, axis: int) -> str:
        output = f"{name}/row0_of_axis{axis}"
        bounds = [self._constant(np.array([value], dtype=np.int64)) for value in (0, 1, axis)]
        self.nodes.append(helper.make_node("Slice", [name, *bounds], [output], name=output))
        return output

    def _clone(self, node: onnx.NodeProto, inputs: list[str]) -> list[tuple[str, str]]:
        """Copy `node` onto narrowed inputs; returns each of its outputs and what it is called in the copy."""
        clone = deepcopy(node)
        clone.name = f"{node.output[0]}/row0"
        del clone.input[:], clone.output[:]
        clone.input.extend(inputs)
        clone.output.extend(f"{name}/row0" for name in node.output)
        if clone.op_type == "Reshape":  # a zero in the new shape copies an axis
            for flag in [each for each in clone.attribute if each.name == "allowzero"]:
                clone.attribute.remove(flag)
        self.nodes.append(clone)
        self._cloned.update(dict.fromkeys(node.output, clone))
        return list(zip(node.output, clone.output, strict=True))

    def _constant(self, value: npt.NDArray[np.int64]) -> str:
        name = "first_row_only/" + "_".join(map(str, value.tolist()))
        self.constants[name] = numpy_helper.from_array(value, name)
        return name
