"""An ONNX graph written from `EncoderWeights`, whose formula was proved to be PyTorch's: for batches of one length.

ONNX Runtime has one operation for a bias and its activation, and one for a residual and its norm. Where the head reads
the first row, the last layer computes no other.

The biases of keys and values are folded away. Adding a constant to every key adds one number to all scores of a query,
which softmax takes off again; and since its weights sum to one, the bias of the values comes through unchanged and is
added behind the next projection instead. Each saves a pass over the activations.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir
from onnx_ir import DataType, Value
from onnx_ir.tape import Tape

from pairscore.export.encoder.formula import EncoderWeights, Layer, Linear, Norm
from pairscore.export.graphs.editing import MICROSOFT
from pairscore.runtime.types import FloatArray

_OPSET = 17
_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "gelu": "Gelu", "gelu_tanh": "FastGelu"}

# A tensor, a constant, or nothing where an operation can do without.
Input = Value | npt.NDArray[Any] | Sequence[int] | None


class Writer:
    """Nodes and weights, as they are made. Its inputs are input_ids and, of several types of tokens, token_type_ids."""

    def __init__(self, encoder: EncoderWeights, precision: type[np.floating[Any]]) -> None:
        self.encoder = encoder
        self._precision = precision
        self._tape = Tape()
        names = ["input_ids", *(["token_type_ids"] if encoder.types is not None and len(encoder.types) > 1 else [])]
        self._inputs = {name: onnx_ir.val(name, DataType.INT64, ["batch", "length"]) for name in names}

    def model(self) -> onnx_ir.Model:
        """The graph that was written, as a model."""
        encoder = self.encoder
        length = self.add("Slice", "length", self.add("Shape", "shape", self._inputs["input_ids"]), [1], [2])
        rows = self.layers(self._embedded(length), length)
        if encoder.pooling == "first":
            rows = self.add("Squeeze", "pooled", rows, [1])
        else:
            rows = self.add("ReduceMean", "pooled", rows, axes=[1], keepdims=0)
        for number, each in enumerate(encoder.head):
            name = f"head.{number}"
            rows = self._activated(name, each.activation, self.linear(f"{name}.sum", each.linear, rows))
            if each.norm is not None:
                rows = self._norm(f"{name}.norm", rows, each.norm, each.epsilon)
        logits = self.add("Cast", "logits", rows, to=DataType.FLOAT)
        logits.dtype = DataType.FLOAT
        logits.shape = onnx_ir.Shape(["batch", len(encoder.head[-1].linear.weight)])
        graph = onnx_ir.Graph(
            list(self._inputs.values()),
            [logits],
            nodes=self._tape.nodes,
            initializers=self._tape.initializers,
            opset_imports={"": _OPSET, MICROSOFT: 1},
            name="unpadded",
        )
        return onnx_ir.Model(graph, ir_version=8)

    def layers(self, rows: Value, length: Value) -> Value:
        """All layers. Returns Shape (batch, length, hidden), or (batch, 1, hidden) if the head reads the first row."""
        del length
        *whole, last = self.encoder.layers
        for number, layer in enumerate(whole):
            rows = self._scored_layer(str(number), layer, rows, rows)
        asking = self.add("Slice", "first", rows, [0], [1], [1]) if self.encoder.pooling == "first" else rows
        return self._scored_layer(str(len(whole)), last, rows, asking)

    def _scored_layer(self, name: str, layer: Layer, rows: Value, asking: Value) -> Value:
        query = self.linear(f"{name}.query", layer.query, asking)
        key = self.add("MatMul", f"{name}.key", rows, layer.key.weight.T)
        return self.layer(name, layer, rows, asking, (query, key))

    def layer(
        self, name: str, layer: Layer, rows: Value, asking: Value, scored: tuple[Value, Value, *tuple[Value, ...]]
    ) -> Value:
        """scored: queries of `asking`, keys of `rows`, and, where there is any, what is added to the scores."""
        query, key, *bias = scored
        # Attention's weights add up to one: the values' bias comes through, and is added behind the next product.
        value = self.add("MatMul", f"{name}.value", rows, layer.value.weight.T)
        behind: FloatArray = np.add(layer.output.bias, layer.output.weight @ layer.value.bias, dtype=np.float32)
        inputs = (query, key, value, *((None, None, *bias) if bias else ()))
        heads = self.encoder.heads
        context = self.add("MultiHeadAttention", f"{name}.context", *inputs, domain=MICROSOFT, num_heads=heads)
        output = self.add("MatMul", f"{name}.output", context, layer.output.weight.T)
        attended = self._skip_norm(f"{name}.attention_norm", output, asking, layer.attention_norm, behind)
        inner = self._inner(f"{name}.up", layer.up, attended)
        down = self.add("MatMul", f"{name}.down", inner, layer.down.weight.T)
        return self._skip_norm(f"{name}.output_norm", down, attended, layer.output_norm, layer.down.bias)

    def linear(self, name: str, linear: Linear, rows: Value) -> Value:
        """A product with its bias."""
        product = self.add("MatMul", f"{name}.product", rows, linear.weight.T)
        return self.add("Add", name, product, linear.bias)

    def add(self, kind: str, name: str, *inputs: Input, domain: str = "", **attributes: Any) -> Value:
        """A node that gives the tensor `name`."""
        values = [
            each if each is None or isinstance(each, Value) else self._constant(f"{name}/{place}", each)
            for place, each in enumerate(inputs)
        ]
        return self._tape.op(kind, values, attributes, domain=domain, name=name, output=Value(name=name))

    def _constant(self, name: str, value: npt.NDArray[Any] | Sequence[int]) -> Value:
        array = value if isinstance(value, np.ndarray) else np.array(value, np.int64)
        if array.dtype == np.float32:
            largest = np.finfo(self._precision).max
            array = array.clip(-largest, largest).astype(self._precision)
        return self._tape.initializer(onnx_ir.tensor(np.array(array, order="C"), name=name))

    def _embedded(self, length: Value) -> Value:
        encoder = self.encoder
        rows = self.add("Gather", "words", encoder.words, self._inputs["input_ids"])
        if encoder.positions is not None:
            rows = self.add("Add", "words_and_positions", rows, self._positions(encoder.positions, length))
        if encoder.types is not None:
            named = self._inputs.get("token_type_ids")
            types = encoder.types[0] if named is None else self.add("Gather", "types", encoder.types, named)
            rows = self.add("Add", "embeddings", rows, types)
        rows = self._norm("embeddings.norm", rows, encoder.embedding_norm, encoder.epsilon)
        return rows if encoder.projection is None else self.linear("projection", encoder.projection, rows)

    def _positions(self, table: npt.NDArray[np.float32], length: Value) -> Value:
        padding = self.encoder.padding_id
        if padding is None:
            return self.add("Slice", "positions", table[self.encoder.position_offset :], [0], length, [0])
        counted = self.add("Not", "counted", self.add("Equal", "is_padding", self._inputs["input_ids"], [padding]))
        counted = self.add("Cast", "counted.number", counted, to=DataType.INT64)
        places = self.add("CumSum", "places", counted, np.array(1))
        places = self.add("Add", "position_ids", self.add("Mul", "places.counted", places, counted), [padding])
        return self.add("Gather", "positions", table, places)

    def _inner(self, name: str, up: Linear, rows: Value) -> Value:
        """activation(up(rows)), with the bias in one pass where ONNX Runtime can."""
        activation = self.encoder.activation
        fused = {"gelu": "BiasGelu", "gelu_tanh": "FastGelu"}.get(activation)
        if fused is None:
            return self._activated(f"{name}.activated", activation, self.linear(name, up, rows))
        product = self.add("MatMul", f"{name}.product", rows, up.weight.T)
        return self.add(fused, name, product, up.bias, domain=MICROSOFT)

    def _activated(self, name: str, activation: str, rows: Value) -> Value:
        if activation == "none":
            return rows
        domain = MICROSOFT if "gelu" in activation else ""
        return self.add(_ACTIVATIONS[activation], f"{name}.{activation}", rows, domain=domain)

    def _norm(self, name: str, rows: Value, norm: Norm, epsilon: float) -> Value:
        return self.add("LayerNormalization", name, rows, norm.weight, norm.bias, epsilon=epsilon)

    def _skip_norm(self, name: str, rows: Value, before: Value, norm: Norm | None, bias: FloatArray) -> Value:
        """The norm of rows + before + bias."""
        if norm is None:
            raise ValueError(f"{name} is missing")
        inputs = (rows, before, norm.weight, norm.bias, bias)
        epsilon = self.encoder.epsilon
        return self.add("SkipLayerNormalization", name, *inputs, domain=MICROSOFT, epsilon=epsilon)
