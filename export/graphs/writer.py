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
import onnx
from onnx import TensorProto, helper, numpy_helper

from pairscore.export.encoder.formula import EncoderWeights, Layer, Linear, Norm
from pairscore.export.graphs.editing import MICROSOFT
from pairscore.runtime.types import FloatArray

_OPSET = 17
_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "gelu": "Gelu", "gelu_tanh": "FastGelu"}

# The name of a tensor, or a constant.
Input = str | npt.NDArray[Any] | Sequence[int]


class Writer:
    """Nodes and weights, as they are made. Its inputs are input_ids and, of several types of tokens, token_type_ids."""

    def __init__(self, encoder: EncoderWeights, precision: type[np.floating[Any]]) -> None:
        self.encoder = encoder
        self._precision = precision
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        """The graph that was written, as a model."""
        encoder = self.encoder
        typed = encoder.types is not None and len(encoder.types) > 1
        length = self.add("Slice", "length", self.add("Shape", "shape", "input_ids"), [1], [2])
        rows = self.layers(self._embedded(length, typed=typed), length)
        if encoder.pooling == "first":
            rows = self.add("Squeeze", "pooled", rows, [1])
        else:
            rows = self.add("ReduceMean", "pooled", rows, axes=[1], keepdims=0)
        for number, each in enumerate(encoder.head):
            name = f"head.{number}"
            rows = self._activated(name, each.activation, self.linear(f"{name}.sum", each.linear, rows))
            if each.norm is not None:
                rows = self._norm(f"{name}.norm", rows, each.norm, each.epsilon)
        self._nodes.append(helper.make_node("Cast", [rows], ["logits"], to=TensorProto.FLOAT))
        labels = len(encoder.head[-1].linear.weight)
        graph = helper.make_graph(
            self._nodes,
            "unpadded",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
                for name in ("input_ids", *(["token_type_ids"] if typed else []))
            ],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])],
            self._constants,
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def layers(self, rows: str, length: str) -> str:
        """All layers. Returns Shape (batch, length, hidden), or (batch, 1, hidden) if the head reads the first row."""
        del length
        *whole, last = self.encoder.layers
        for number, layer in enumerate(whole):
            rows = self._scored_layer(str(number), layer, rows, rows)
        asking = self.add("Slice", "first", rows, [0], [1], [1]) if self.encoder.pooling == "first" else rows
        return self._scored_layer(str(len(whole)), last, rows, asking)

    def _scored_layer(self, name: str, layer: Layer, rows: str, asking: str) -> str:
        query = self.linear(f"{name}.query", layer.query, asking)
        key = self.add("MatMul", f"{name}.key", rows, layer.key.weight.T)
        return self.layer(name, layer, rows, asking, (query, key))

    def layer(
        self, name: str, layer: Layer, rows: str, asking: str, scored: tuple[str, str] | tuple[str, str, str]
    ) -> str:
        """scored: queries of `asking`, keys of `rows`, and, where there is any, what is added to the scores."""
        query, key, *bias = scored
        # Attention's weights add up to one: the values' bias comes through, and is added behind the next product.
        value = self.add("MatMul", f"{name}.value", rows, layer.value.weight.T)
        behind: FloatArray = np.add(layer.output.bias, layer.output.weight @ layer.value.bias, dtype=np.float32)
        inputs = (query, key, value, *(("", "", *bias) if bias else ()))
        heads = self.encoder.heads
        context = self.add("MultiHeadAttention", f"{name}.context", *inputs, domain=MICROSOFT, num_heads=heads)
        output = self.add("MatMul", f"{name}.output", context, layer.output.weight.T)
        attended = self._skip_norm(f"{name}.attention_norm", output, asking, layer.attention_norm, behind)
        inner = self._inner(f"{name}.up", layer.up, attended)
        down = self.add("MatMul", f"{name}.down", inner, layer.down.weight.T)
        return self._skip_norm(f"{name}.output_norm", down, attended, layer.output_norm, layer.down.bias)

    def linear(self, name: str, linear: Linear, rows: str) -> str:
        """A product with its bias; returns the name of its output."""
        product = self.add("MatMul", f"{name}.product", rows, linear.weight.T)
        return self.add("Add", name, product, linear.bias)

    def add(self, kind: str, name: str, *inputs: Input, domain: str = "", **attributes: Any) -> str:
        """A node that gives the tensor `name`; returns that name."""
        names = [
            each if isinstance(each, str) else self._constant(f"{name}/{i}", each) for i, each in enumerate(inputs)
        ]
        self._nodes.append(helper.make_node(kind, names, [name], name=name, domain=domain, **attributes))
        return name

    def _constant(self, name: str, value: npt.NDArray[Any] | Sequence[int]) -> str:
        array = value if isinstance(value, np.ndarray) else np.array(value, np.int64)
        if array.dtype == np.float32:
            largest = np.finfo(self._precision).max
            array = array.clip(-largest, largest).astype(self._precision)
        self._constants.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def _embedded(self, length: str, *, typed: bool) -> str:
        encoder = self.encoder
        rows = self.add("Gather", "words", encoder.words, "input_ids")
        if encoder.positions is not None:
            rows = self.add("Add", "words_and_positions", rows, self._positions(encoder.positions, length))
        if encoder.types is not None:
            types = self.add("Gather", "types", encoder.types, "token_type_ids") if typed else encoder.types[0]
            rows = self.add("Add", "embeddings", rows, types)
        rows = self._norm("embeddings.norm", rows, encoder.embedding_norm, encoder.epsilon)
        return rows if encoder.projection is None else self.linear("projection", encoder.projection, rows)

    def _positions(self, table: npt.NDArray[np.float32], length: str) -> str:
        padding = self.encoder.padding_id
        if padding is None:
            return self.add("Slice", "positions", table[self.encoder.position_offset :], [0], length, [0])
        counted = self.add("Not", "counted", self.add("Equal", "is_padding", "input_ids", [padding]))
        counted = self.add("Cast", "counted.number", counted, to=TensorProto.INT64)
        places = self.add("CumSum", "places", counted, np.array(1))
        places = self.add("Add", "position_ids", self.add("Mul", "places.counted", places, counted), [padding])
        return self.add("Gather", "positions", table, places)

    def _inner(self, name: str, up: Linear, rows: str) -> str:
        """activation(up(rows)), with the bias in one pass where ONNX Runtime can."""
        activation = self.encoder.activation
        fused = {"gelu": "BiasGelu", "gelu_tanh": "FastGelu"}.get(activation)
        if fused is None:
            return self._activated(f"{name}.activated", activation, self.linear(name, up, rows))
        product = self.add("MatMul", f"{name}.product", rows, up.weight.T)
        return self.add(fused, name, product, up.bias, domain=MICROSOFT)

    def _activated(self, name: str, activation: str, rows: str) -> str:
        if activation == "none":
            return rows
        domain = MICROSOFT if "gelu" in activation else ""
        return self.add(_ACTIVATIONS[activation], f"{name}.{activation}", rows, domain=domain)

    def _norm(self, name: str, rows: str, norm: Norm, epsilon: float) -> str:
        return self.add("LayerNormalization", name, rows, norm.weight, norm.bias, epsilon=epsilon)

    def _skip_norm(self, name: str, rows: str, before: str, norm: Norm | None, bias: npt.NDArray[np.float32]) -> str:
        """The norm of rows + before + bias."""
        if norm is None:
            raise ValueError(f"{name} is missing")
        inputs = (rows, before, norm.weight, norm.bias, bias)
        epsilon = self.encoder.epsilon
        return self.add("SkipLayerNormalization", name, *inputs, domain=MICROSOFT, epsilon=epsilon)
