"""Find the encoder of `encoder.py` in an ONNX graph, with its weights as they are there.

The graph is read backwards from its logits, in small steps that hold whoever exported it: what adds a bias to a product
with constant weights is a linear layer, whatever its nodes are called or its weights' layout is; a function between two
linear layers is the activation whose values it has on two probes; a tensor that only reshapes another, or takes its
first rows, stands for it. In the end the formula and the graph score the same random tokens: what was misread shows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch

from pairscore.export.graphs.attention import Attention, find_attentions
from pairscore.export.graphs.editing import attribute
from pairscore.export.graphs.encoder import ACTIVATIONS, Encoder, Layer, Linear, Norm
from pairscore.export.graphs.probe import Probe
from pairscore.runtime.types import FloatArray

# Logits of the formula and of the graph, both in fp32: relative to the largest, and never less than of 1.
TOLERANCE = 1e-4
# Lengths at which they are compared, beside the longest.
_LENGTHS = (3, 61)
# An activation is the one that differs least, and by no more than this.
_ACTIVATION_TOLERANCE = 1e-5
_VIEWS = frozenset(
    {"Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Transpose"}
)
_ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Erf", "Tanh", "Relu", "Gelu", "Sigmoid", "Sqrt", "Max", "Min", "Clip", "Where"}
    | {"Identity", "Cast", "Neg", "Exp", "Softplus", "Elu", "Selu", "Celu", "HardSwish", "Mish", "Abs", "Reciprocal"}
)


class NotRecognisedError(Exception):
    """The graph is not the encoder that is looked for; the text says where it differs."""


def recognise(model: onnx.ModelProto, max_length: int) -> Encoder:
    """The encoder that `model` computes, for batches of one length up to `max_length` tokens.

    Raises NotRecognisedError for any other graph, and for one that is too large to be probed.
    """
    probe = Probe.of(model)
    if probe is None:
        raise NotRecognisedError("the graph is too large to be probed")
    encoder = _Reader(model, probe).encoder()
    if encoder.longest < max_length:
        raise NotRecognisedError(f"the model has {encoder.longest} positions, fewer than {max_length} tokens")
    difference = largest_difference(model, encoder, [*(each for each in _LENGTHS if each < max_length), max_length])
    if not difference <= TOLERANCE:
        raise NotRecognisedError(f"its logits are {difference:.2g} from those of the formula, for a reason not found")
    return encoder


def largest_difference(model: onnx.ModelProto, encoder: Encoder, lengths: Sequence[int]) -> float:
    """Between the logits of the graph and of the formula on random tokens; relative where logits exceed 1.

    All ids of the vocabulary take part, the padding's own too, and both token types.
    """
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    found = []
    for length in lengths:
        ids = random.integers(0, len(encoder.words), (2, length), dtype=np.int32)
        if encoder.padding_id is not None:
            ids[1, random.integers(0, length, 1 + length // 8)] = encoder.padding_id
        types = random.integers(0, 1 if encoder.types is None else len(encoder.types), ids.shape, dtype=np.int32)
        given = {"input_ids": ids, "token_type_ids": types, "attention_mask": np.ones_like(ids)}
        feeds = {node.name: given[node.name].astype(np.int64) for node in session.get_inputs()}
        expected = np.asarray(session.run(None, feeds)[0])
        scale = max(1.0, float(np.abs(expected).max()))
        found.append(float(np.abs(encoder.logits(ids, types) - expected).max()) / scale)
    return float(np.max(found))


class _Reader:
    """A graph, and every tensor's values on the probes."""

    def __init__(self, model: onnx.ModelProto, probe: Probe) -> None:
        self._probe = probe
        self._producer = {name: node for node in model.graph.node for name in node.output}
        self._logits = model.graph.output[0].name
        attentions, self._softmaxes = find_attentions(model, probe)
        self._attentions = {self._origin(each.context): each for each in attentions}
        self._epsilons: set[float] = set()

    def encoder(self) -> Encoder:
        if not self._softmaxes:
            raise NotRecognisedError("it has no attention")
        if len(self._attentions) < self._softmaxes:
            raise NotRecognisedError(
                f"{len(self._attentions)} of {self._softmaxes} attentions are softmax(query keyᵀ) value of all tokens; "
                "relative or rotary positions and windows are not"
            )
        head, name = self._head()
        layers: list[Layer] = []
        activations, heads = set(), set()
        while len(layers) < self._softmaxes:
            layer, activation, attention, name = self._layer(name, f"layer {self._softmaxes - 1 - len(layers)}")
            layers.insert(0, layer)
            activations.add(activation)
            heads.add(attention.heads)
        projection = self._linear(name)
        norm, added = self._norm(name if projection is None else projection.input, "the embeddings")
        words, positions, types, offset, padding_id = self._embeddings(added)
        for what, values in (("activations", activations), ("numbers of heads", heads), ("epsilons", self._epsilons)):
            if len(values) > 1:
                raise NotRecognisedError(f"its layers have different {what} ({', '.join(map(str, sorted(values)))})")
        (activation,), (head_count,), (epsilon,) = activations, heads, self._epsilons
        return Encoder(
            words=words,
            positions=positions,
            types=types,
            position_offset=offset,
            padding_id=padding_id,
            embedding_norm=norm,
            projection=projection,
            heads=head_count,
            layers=tuple(layers),
            activation=activation,
            epsilon=epsilon,
            head=tuple(head),
        )

    # From the end to the beginning ------------------------------------------------------------------------

    def _head(self) -> tuple[list[tuple[Linear, str]], str]:
        """The head's linear layers, each with the activation after it, and the norm whose first row they read."""
        found: list[tuple[Linear, str]] = []
        name = self._logits
        while not self._is_norm(name):
            linear, activation = self._activated(name, "the head")
            found.insert(0, (linear, activation))
            name = self._origin(linear.input)
        if not found:
            raise NotRecognisedError("it has no head of linear layers")
        return found, name

    def _layer(self, name: str, where: str) -> tuple[Layer, str, Attention, str]:
        """The layer whose last norm gives `name`: its weights, activation, attention, and the tensor that it reads."""
        output_norm, added = self._norm(name, where)
        down_output, middle = self._residual(added, where)
        down = self._needed(down_output, where)
        up, activation = self._activated(down.input, where)
        attention_norm, added = self._norm(middle, where)
        self._same(up.input, middle, f"the feed-forward of {where}")
        output_output, before = self._residual(added, where)
        output = self._needed(output_output, where)
        attention = self._attentions.get(self._origin(output.input))
        if attention is None:
            raise NotRecognisedError(f"the first product of {where} does not read an attention")
        projections = [self._needed(each, where) for each in (attention.query, attention.key, attention.value)]
        for each in projections:
            self._same(each.input, before, f"the attention of {where}")
        query, key, value = projections
        layer = Layer(query, key, value, output, attention_norm, up, down, output_norm)
        return layer, activation, attention, before

    def _embeddings(self, name: str) -> tuple[FloatArray, FloatArray, FloatArray | None, int, int | None]:
        """The tables of words, positions and types, the positions' offset, and the id that they do not count."""
        words: FloatArray | None = None
        positions: FloatArray | None = None
        types: FloatArray | None = None
        offset, padding_id = 0, None
        for node in self._summands(name):
            table = None if node is None or node.op_type != "Gather" else self._probe.constant(node.input[0])
            if node is None or table is None or table.ndim != 2 or attribute(node, "axis", 0) != 0:
                raise NotRecognisedError("its embeddings are not a sum of rows of tables")
            index = self._origin(node.input[1])
            ids = [values[index].reshape(-1, values[index].shape[-1]) for values in self._probe.values]
            if index == "input_ids" and words is None:
                words = _float(table)
            elif index == "token_type_ids" and types is None:
                types = _float(table)
            elif all((each == 0).all() for each in ids) and types is None:
                types = _float(table[:1])
            elif all((each == np.arange(each.shape[1]) + each[0, 0]).all() for each in ids) and positions is None:
                positions, offset = _float(table), int(ids[0][0, 0])
                padding_id = offset - 1 if self._depends(index, "input_ids") else None
            else:
                raise NotRecognisedError("its embeddings have a table that is neither of words, positions nor types")
        if words is None or positions is None:
            raise NotRecognisedError("its embeddings have no table of " + ("words" if words is None else "positions"))
        return words, positions, types, offset, padding_id

    # Small steps ------------------------------------------------------------------------------------------

    def _origin(self, name: str) -> str:
        """The tensor that `name` is only another view of: the same numbers in the same order, or its first row."""
        while (node := self._producer.get(name)) is not None and node.op_type in _VIEWS:
            if node.op_type == "Transpose" or not self._is_view(node.input[0], name):
                break
            name = node.input[0]
        return name

    def _is_view(self, whole: str, name: str) -> bool:
        for values in self._probe.values:
            data, view = values[whole], values[name]
            first = data[:, 0] if data.ndim == 3 and view.size != data.size else data
            if first.size != view.size or not np.array_equal(first.ravel(), view.ravel()):
                return False
        return True

    def _linear(self, name: str) -> Linear | None:
        """The linear layer whose output is `name`, or None."""
        node = self._producer.get(self._origin(name))
        bias: npt.NDArray[Any] | None = None
        if node is not None and node.op_type == "Add":
            for constant, product in (node.input, node.input[::-1]):
                bias = self._probe.constant(constant)
                inner = self._producer.get(self._origin(product))
                if bias is not None and inner is not None and inner.op_type == "MatMul":
                    node = inner
                    break
        if node is None or node.op_type not in ("MatMul", "Gemm"):
            return None
        weight = self._probe.constant(node.input[1])
        if weight is None or weight.ndim != 2:
            return None
        if node.op_type == "Gemm":
            if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1:
                return None
            weight = weight if attribute(node, "transB", 0) else weight.T
            bias = self._probe.constant(node.input[2]) if len(node.input) > 2 else None
        else:
            weight = weight.T
        bias = np.zeros(len(weight)) if bias is None else bias
        if bias.size != len(weight):
            return None
        return Linear(node.input[0], _float(weight), _float(bias.ravel()))

    def _needed(self, name: str, where: str) -> Linear:
        linear = self._linear(name)
        if linear is None:
            raise NotRecognisedError(f"{where} has something else where a linear layer belongs")
        return linear

    def _activated(self, name: str, where: str) -> tuple[Linear, str]:
        """The one linear layer that `name` is a function of, element by element, and which function that is."""
        waiting, seen, found = [name], set(), set()
        while waiting:
            each = self._origin(waiting.pop())
            node = self._producer.get(each)
            if each in seen or self._probe.constant(each) is not None:
                continue
            seen.add(each)
            if self._linear(each) is not None:
                found.add(each)
            elif node is not None and node.op_type in _ELEMENTWISE:
                waiting.extend(filter(None, node.input))
            else:
                raise NotRecognisedError(
                    f"{where} has {'an input' if node is None else node.op_type} after a linear layer"
                )
        if len(found) != 1:
            raise NotRecognisedError(f"{where} joins {len(found)} linear layers, as gated units do")
        (source,) = found
        differences = {known: self._difference(function, source, name) for known, function in ACTIVATIONS.items()}
        best = min(differences, key=lambda known: differences[known])
        if not differences[best] <= _ACTIVATION_TOLERANCE:
            raise NotRecognisedError(f"the activation of {where} is none of {', '.join(ACTIVATIONS)}")
        return self._needed(source, where), best

    def _difference(self, function: Any, source: str, name: str) -> float:
        """Between a function of `source` and `name`, relative to the largest value, over all probes."""
        found = []
        for values in self._probe.values:
            given = function(torch.from_numpy(np.array(values[source], dtype=np.float32))).numpy()
            expected = values[name]
            if given.size != expected.size:
                return float("inf")
            scale = max(1.0, float(np.abs(expected).max()))
            found.append(float(np.abs(given.ravel() - expected.ravel()).max()) / scale)
        return max(found)

    def _is_norm(self, name: str) -> bool:
        node = self._producer.get(self._origin(name))
        return node is not None and node.op_type == "LayerNormalization"

    def _norm(self, name: str, where: str) -> tuple[Norm, str]:
        """The norm that gives `name`, and the tensor that it reads."""
        node = self._producer.get(self._origin(name))
        if node is None or node.op_type != "LayerNormalization" or not self._is_last_axis(node):
            raise NotRecognisedError(f"{where} does not end in a layer norm")
        weight = self._probe.constant(node.input[1])
        bias = self._probe.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if weight is None or weight.ndim != 1:
            raise NotRecognisedError(f"the layer norm of {where} has no constant weights")
        self._epsilons.add(float(attribute(node, "epsilon", 1e-5)))
        return Norm(_float(weight), _float(np.zeros(len(weight)) if bias is None else bias)), node.input[0]

    def _is_last_axis(self, node: onnx.NodeProto) -> bool:
        rank = len(self._probe.shape(node.input[0]))
        return int(attribute(node, "axis", -1)) % rank == rank - 1

    def _residual(self, name: str, where: str) -> tuple[str, str]:
        """The linear layer's output and the tensor of the residual stream whose sum `name` is."""
        node = self._producer.get(self._origin(name))
        if node is not None and node.op_type == "Add":
            for linear, residual in (node.input, node.input[::-1]):
                if self._linear(linear) is not None and self._probe.constant(residual) is None:
                    origin = self._origin(residual)
                    if self._is_norm(origin) or self._linear(origin) is not None:
                        return linear, origin
        raise NotRecognisedError(
            f"a norm of {where} does not read the sum of a linear layer and its input (pre-norm models)"
        )

    def _same(self, name: str, expected: str, what: str) -> None:
        if self._origin(name) != self._origin(expected):
            raise NotRecognisedError(f"{what} reads another tensor than the residual stream")

    def _summands(self, name: str) -> list[onnx.NodeProto | None]:
        """The nodes whose outputs `name` is the sum of."""
        node = self._producer.get(self._origin(name))
        if node is None or node.op_type != "Add":
            return [node]
        return [each for summand in node.input for each in self._summands(summand)]

    def _depends(self, name: str, wanted: str) -> bool:
        """Whether a tensor's values, not only its shape, come from the input `wanted`."""
        waiting, seen = [name], set()
        while waiting:
            each = waiting.pop()
            if each == wanted:
                return True
            node = self._producer.get(each)
            if each not in seen and node is not None and node.op_type != "Shape":
                waiting.extend(filter(None, node.input))
            seen.add(each)
        return False


def _float(values: npt.NDArray[Any]) -> FloatArray:
    return np.array(values, dtype=np.float32, order="C")
