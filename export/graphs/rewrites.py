"""Exact graph rewrites: less work for the same logits.

A rewrite needs to know what each axis of each tensor stands for. ONNX Runtime infers shapes whose dynamic axes have
names, whatever the architecture; what a rewrite does not understand, it leaves as it was.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir
from onnx_ir import Node, Value
from onnx_ir.convenience import get_const_tensor
from onnx_ir.passes.common import RemoveUnusedNodesPass, TopologicalSortPass
from onnx_ir.tape import Tape
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

from pairscore.runtime.errors import one_line

# Operations that work along some of the axes.
_ON_SOME_AXES = ("Softmax", "LayerNormalization", "ReduceMean", "Slice", "Split", "Concat")
_ELEMENTWISE = frozenset(
    {"Erf", "Tanh", "Sqrt", "Relu", "Sigmoid", "Gelu", "Cast", "Identity", "Neg", "Exp", "Log", "Reciprocal", "Abs"}
    | {"Add", "Sub", "Mul", "Div", "Pow", "Where", "Min", "Max"}
)
# Of a node; those that it can do without may be None.
_Inputs = Sequence[Value | None]


def rewrite_file(path: Path) -> tuple[str, ...]:
    """Apply every rewrite to the graph at `path`, in place, and return what was done, a sentence each."""
    try:
        # Weights outside of the graph stay where they are.
        rewritten, note = first_row_only(onnx.load(str(path), load_external_data=False))
    except Exception as error:  # ONNX Runtime raises no other where it cannot infer a shape
        return (f"first row only: not applied, its shapes are not known ({one_line(error)})",)
    if rewritten is not None:
        onnx_ir.save(rewritten, path)
    return (note,)


def first_row_only(model: onnx.ModelProto) -> tuple[onnx_ir.Model | None, str]:
    """Compute only the first token's row wherever the head needs no other.

    The head of a sequence classifier reads `hidden[:, 0]`. So in the last layer only that token's query, attention
    output and feed-forward are needed, while its keys and values stay whole. The selection is moved up from the head
    through every operation that treats rows alike, as far as nothing else needs the other rows. Exact up to the
    order of sums in the matrix products.

    Returns the new graph, or None, and in one sentence what was done or why nothing was. Raises what ONNX Runtime
    raises where it cannot infer a shape, or ValueError.
    """
    inferred = SymbolicShapeInference.infer_shapes(model, auto_merge=True)
    if inferred is None:
        raise ValueError("the graph's opset is older than 7")
    # A selection moves up through every layer by calls in calls, at first; models of 24 layers have thousands of nodes.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 10 * len(model.graph.node)))
    stops: frozenset[str] = frozenset()
    while True:
        narrowing = _Narrowing(onnx_ir.from_proto(inferred), stops)
        shared = narrowing.shared()
        if not shared:
            break
        stops |= shared
    if not narrowing.products:
        return None, "first row only: not applied, no head that reads the first token was found"
    return narrowing.applied(), f"first row only: {narrowing.products} matrix products on one row a pair"


class _Narrowing:
    """Clones of nodes that compute row 0 of an axis of length instead of all its rows. model: its shapes are known, and
    the second axis of its first input is the length. stops: names of tensors that are not computed narrowly but sliced.
    """

    def __init__(self, model: onnx_ir.Model, stops: frozenset[str]) -> None:
        self._model, self._stops = model, stops
        self._tape = Tape(model.graph)
        self._length = _shape(model.graph.inputs[0])[1]
        self._narrowed: dict[tuple[Value, int], Value] = {}
        self._clones: dict[Value, Node] = {}  # by outputs of the original nodes
        self._nodes = tuple(model.graph)
        heads = [node for node in self._nodes if self._reads_first_row(node)]
        self._heads = {node: self._narrow(node.inputs[0], 1) for node in heads}

    def shared(self) -> frozenset[str]:
        """Tensors that were narrowed, and that the graph needs whole all the same: better sliced than computed twice.

        What only asks for a tensor's shape does not count: narrow reshapes have constant shapes.
        """
        found = set()
        for node in self._nodes:
            clone = self._clones.get(node.outputs[0])
            for place, value in enumerate(node.inputs):
                needed_whole = clone is None or clone.inputs[place] is value
                if value in self._clones and needed_whole and node.op_type != "Shape" and node not in self._heads:
                    found.add(str(value.name))
        return frozenset(found)

    @property
    def products(self) -> int:
        """How many clones are matrix products."""
        return sum(node.op_type == "MatMul" for node in self._clones.values())

    def applied(self) -> onnx_ir.Model:
        """The model, whose heads read the clones' rows."""
        for head, row in self._heads.items():
            head.replace_input_with(0, row)
        for node in self._nodes:
            for value in node.outputs:
                if not value.is_graph_output():
                    value.shape = value.type = None  # they were inferred, and no engine needs them
        TopologicalSortPass()(self._model)
        RemoveUnusedNodesPass()(self._model)
        return self._model

    def _reads_first_row(self, node: Node) -> bool:
        if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 1:
            return False
        data, index = node.inputs[0], _constant(node.inputs[1])
        return index is not None and index.shape == () and index == 0 and len(_shape(data)) == 3 and self._long(data, 1)

    def _long(self, value: Value | None, axis: int) -> bool:
        """Whether an axis is the sequence's."""
        return axis < len(_shape(value)) and _shape(value)[axis] == self._length

    def _narrow(self, value: Value | None, axis: int) -> Value:
        """Row 0 of `axis` of a tensor, the axis kept with size 1."""
        if value is None:
            raise ValueError("an input is missing")
        if (value, axis) not in self._narrowed:
            node = value.producer()
            inputs = None
            if node is not None and self._stops.isdisjoint(str(each.name) for each in node.outputs):
                inputs = self._narrowed_inputs(node, axis)
            if node is None or inputs is None:
                bounds = [self._numbers([each]) for each in (0, 1, axis)]
                output = Value(name=f"{value.name}/row0_of_axis{axis}")
                self._narrowed[value, axis] = self._tape.op("Slice", [value, *bounds], output=output)
            else:
                made = self._clone(node, inputs).outputs
                self._narrowed.update(((old, axis), new) for old, new in zip(node.outputs, made, strict=True))
        return self._narrowed[value, axis]

    def _narrowed_inputs(self, node: Node, axis: int) -> "_Inputs | None":
        """The inputs with which `node` gives its narrowed output; None for an operation not understood."""
        if node.op_type in _ELEMENTWISE:
            return self._broadcast(node, axis)
        rule: Callable[[Node, int], _Inputs | None] | None = {
            **dict.fromkeys(_ON_SOME_AXES, self._on_other_axes),
            "MatMul": self._matmul,
            "Transpose": self._transpose,
            "Reshape": self._reshape,
            "Squeeze": self._squeeze,
            "Gather": self._gather_on_another_axis,
        }.get(node.op_type)
        return None if rule is None else rule(node, axis)

    def _broadcast(self, node: Node, axis: int) -> _Inputs:
        rank = len(_shape(node.outputs[0]))
        inputs: list[Value | None] = []
        for value in node.inputs:
            own = axis - (rank - len(_shape(value)))
            inputs.append(self._narrow(value, own) if own >= 0 and self._long(value, own) else value)
        return inputs

    def _on_other_axes(self, node: Node, axis: int) -> _Inputs | None:
        """Operations that keep the number of axes and treat every row of `axis` alike."""
        rank = len(_shape(node.inputs[0]))
        match node.op_type:
            case "LayerNormalization":
                axes: Any = range(node.attributes.get_int("axis", -1) % rank, rank)
            case "Slice":
                axes = _constant(node.inputs[3]) if len(node.inputs) > 3 else None
            case "ReduceMean":
                axes = node.attributes.get_ints("axes", None)
                axes = _constant(node.inputs[1]) if axes is None and len(node.inputs) > 1 else axes
            case kind:
                axes = node.attributes.get_int("axis", -1 if kind == "Softmax" else 0)
        if axes is None or len(_shape(node.outputs[0])) != rank:
            return None
        if axis in {int(each) % rank for each in np.atleast_1d(axes)}:
            return None
        narrowed = len(node.inputs) if node.op_type == "Concat" else 1
        return [*(self._narrow(each, axis) for each in node.inputs[:narrowed]), *node.inputs[narrowed:]]

    def _matmul(self, node: Node, axis: int) -> _Inputs | None:
        left, right = (len(_shape(each)) for each in node.inputs)
        return None if axis != left - 2 or left < right else [self._narrow(node.inputs[0], axis), node.inputs[1]]

    def _transpose(self, node: Node, axis: int) -> _Inputs:
        order = node.attributes.get_ints("perm", range(len(_shape(node.inputs[0])))[::-1])
        return [self._narrow(node.inputs[0], order[axis])]

    def _reshape(self, node: Node, axis: int) -> _Inputs | None:
        """Only where the axes up to and with `axis` stay: they are copied, and the rest must be constant."""
        before, after = (_shape(each)[: axis + 1] for each in (node.inputs[0], node.outputs[0]))
        rest = [each for each in _shape(node.outputs[0])[axis + 1 :] if isinstance(each, int)]
        if before != after or len(after) + len(rest) != len(_shape(node.outputs[0])):
            return None
        return [self._narrow(node.inputs[0], axis), self._numbers([0] * (axis + 1) + rest)]

    def _squeeze(self, node: Node, axis: int) -> _Inputs | None:
        """Only where the axes that go away are named, by input (since opset 13)."""
        axes = _constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is None:
            return None
        rank = len(_shape(node.inputs[0]))
        kept = [each for each in range(rank) if each not in {int(gone) % rank for gone in axes}]
        return [self._narrow(node.inputs[0], kept[axis]), node.inputs[1]]

    def _gather_on_another_axis(self, node: Node, axis: int) -> _Inputs | None:
        index = node.inputs[1]
        if _shape(index) != ():
            return None
        gathered = node.attributes.get_int("axis", 0) % len(_shape(node.inputs[0]))
        return [self._narrow(node.inputs[0], axis if axis < gathered else axis + 1), index]

    def _clone(self, node: Node, inputs: _Inputs) -> Node:
        # Without the flag by which a zero in a new shape copies no axis.
        attributes = [each for each in node.attributes.values() if each.name != "allowzero"]
        outputs = [Value(name=f"{each.name}/row0") for each in node.outputs]
        clone = Node(node.domain, node.op_type, inputs, attributes, outputs=outputs, graph=self._model.graph)
        self._clones.update(dict.fromkeys(node.outputs, clone))
        return clone

    def _numbers(self, numbers: Sequence[int]) -> Value:
        name = "first_row_only/" + "_".join(map(str, numbers))
        known = self._model.graph.initializers.get(name)
        return known or self._tape.initializer(onnx_ir.tensor(np.array(numbers, np.int64), name=name))


def _shape(value: Value | None) -> tuple[int | str | None, ...]:
    """Dynamic axes by their names."""
    if value is None or value.shape is None:
        raise ValueError(f"that of {value and value.name} is missing")
    return tuple(each if isinstance(each, int) else each.value for each in value.shape)


def _constant(value: Value | None) -> npt.NDArray[Any] | None:
    tensor = None if value is None else get_const_tensor(value)
    return None if tensor is None else tensor.numpy()
