"""The unpadded graph: for batches of one length, without attention mask, each attention one fused operation.

A batch whose pairs all have the same length has nothing to mask. Without a mask ONNX Runtime's `MultiHeadAttention`
runs in a flash attention kernel on a GPU (Dao 2023, arXiv 2307.08691), which never writes the matrix of scores to
memory. Such a graph is wrong for padded batches, so it stands beside the standard one, under a name of its own.

The graph is written from the `Encoder`, whose formula was proved to be PyTorch's. ONNX Runtime has one operation for a
bias and its activation, and one for a residual and its norm. Where the head reads the first row, the last layer
computes no other.

The biases of keys and values are folded away. Adding a constant to every key adds one number to all scores of a query,
which softmax takes off again; and since its weights sum to one, the bias of the values comes through unchanged and can
be added behind the next projection instead. Each saves a pass over the activations.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from pairscore.export.encoder.formula import Encoder, HeadLayer, Layer, Linear, Norm
from pairscore.export.graphs.editing import MICROSOFT

_OPSET = 20


def unpadded(encoder: Encoder, precision: type[np.floating[Any]] = np.float32) -> onnx.ModelProto | None:
    """The graph of an encoder, its weights and arithmetic in `precision`, its logits in fp32.

    None for an encoder whose attention is more than one fused operation: ModernBERT's windows, DeBERTa's positions.
    """
    if encoder.modern or any(layer.relative is not None for layer in encoder.layers):
        return None
    return _Writer(encoder, precision).model()


class _Writer:
    """Nodes and weights, as they are made."""

    def __init__(self, encoder: Encoder, precision: type[np.floating[Any]]) -> None:
        self._encoder = encoder
        self._precision = precision
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        encoder = self._encoder
        typed = encoder.types is not None and len(encoder.types) > 1
        rows = self._embedded(typed)
        for layer in encoder.layers[:-1]:
            rows = self._layer(layer, rows, rows)
        last = encoder.layers[-1]
        if encoder.pooling == "first":
            bounds = [self._constant(np.array([place], np.int64)) for place in (0, 1, 1)]
            rows = self._layer(last, rows, self._node("Slice", rows, *bounds))
            pooled = self._node("Squeeze", rows, self._constant(np.array([1], np.int64)))
        else:
            axes = self._constant(np.array([1], np.int64))
            pooled = self._node("ReduceMean", self._layer(last, rows, rows), axes, keepdims=0)
        for each in encoder.head:
            pooled = self._head_layer(each, pooled)
        self._nodes.append(helper.make_node("Cast", [pooled], ["logits"], to=TensorProto.FLOAT))
        names = ["input_ids", *(["token_type_ids"] if typed else [])]
        axes_of_ids = ["batch_size", "sequence_length"]
        labels = len(encoder.head[-1].linear.weight)
        graph = helper.make_graph(
            self._nodes,
            "unpadded",
            [helper.make_tensor_value_info(name, TensorProto.INT64, axes_of_ids) for name in names],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", labels])],
            self._weights,
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def _embedded(self, typed: bool) -> str:
        encoder = self._encoder
        summed = self._node("Gather", self._weight(encoder.words), "input_ids")
        if encoder.types is not None:
            table = self._weight(encoder.types)
            zero = self._constant(np.array(0, np.int64))
            summed = self._node("Add", summed, self._node("Gather", table, "token_type_ids" if typed else zero))
        if encoder.positions is not None:
            table = self._weight(encoder.positions)
            summed = self._node("Add", summed, self._node("Gather", table, self._position_ids()))
        rows = self._norm(summed, encoder.embedding_norm, encoder.epsilon)
        return rows if encoder.projection is None else self._product(encoder.projection, rows)

    def _position_ids(self) -> str:
        """Shape (length,), or of all ids where padding tokens are not counted."""
        encoder = self._encoder
        axis = self._constant(np.array(1, np.int64))
        if encoder.padding_id is None:
            length = self._node("Gather", self._node("Shape", "input_ids"), axis)
            first, step = self._constant(np.array(encoder.position_offset, np.int64)), axis
            return self._node("Range", first, self._node("Add", length, first), step)
        padding = self._constant(np.array(encoder.padding_id, np.int64))
        counted = self._node("Not", self._node("Equal", "input_ids", padding))
        counted = self._node("Cast", counted, to=TensorProto.INT64)
        places = self._node("Mul", self._node("CumSum", counted, axis), counted)
        return self._node("Add", places, padding)

    def _layer(self, layer: Layer, rows: str, wanted: str) -> str:
        """rows: all of them, Shape (batch, length, hidden). wanted: those to compute."""
        context = self._node(
            "MultiHeadAttention",
            self._product(layer.query, wanted),
            self._product(layer.key, rows, biased=False),
            self._product(layer.value, rows, biased=False),
            domain=MICROSOFT,
            num_heads=self._encoder.heads,
        )
        bias = layer.output.bias + layer.output.weight @ layer.value.bias
        wanted = self._added(wanted, self._product(layer.output, context, biased=False), bias, layer.attention_norm)
        inner = self._activated(layer.up, wanted)
        down = self._product(layer.down, inner, biased=False)
        return self._added(wanted, down, layer.down.bias, layer.output_norm)

    def _added(self, rows: str, more: str, bias: npt.NDArray[np.float32], norm: Norm | None) -> str:
        """The norm of a sum of two tensors and a bias."""
        if norm is None:
            raise ValueError("a layer of BERT has no norm")
        weights = [self._weight(each) for each in (norm.weight, norm.bias, bias)]
        return self._node(
            "SkipLayerNormalization", rows, more, *weights, domain=MICROSOFT, epsilon=self._encoder.epsilon
        )

    def _activated(self, linear: Linear, rows: str) -> str:
        product, activation = self._product(linear, rows, biased=False), self._encoder.activation
        fused = {"gelu": "BiasGelu", "gelu_tanh": "FastGelu"}.get(activation)
        if fused is not None:
            return self._node(fused, product, self._weight(linear.bias), domain=MICROSOFT)
        return self._activation(activation, self._node("Add", product, self._weight(linear.bias)))

    def _head_layer(self, each: HeadLayer, pooled: str) -> str:
        pooled = self._activation(each.activation, self._product(each.linear, pooled))
        return pooled if each.norm is None else self._norm(pooled, each.norm, each.epsilon)

    def _activation(self, activation: str, rows: str) -> str:
        match activation:
            case "none":
                return rows
            case "gelu" | "gelu_tanh":
                return self._node("Gelu", rows, approximate="tanh" if activation == "gelu_tanh" else "none")
        return self._node({"relu": "Relu", "tanh": "Tanh"}[activation], rows)

    def _product(self, linear: Linear, rows: str, *, biased: bool = True) -> str:
        product = self._node("MatMul", rows, self._weight(linear.weight.T))
        return self._node("Add", product, self._weight(linear.bias)) if biased else product

    def _norm(self, rows: str, norm: Norm, epsilon: float) -> str:
        weights = self._weight(norm.weight), self._weight(norm.bias)
        return self._node("LayerNormalization", rows, *weights, epsilon=epsilon)

    def _node(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        output = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=output, domain=domain, **attributes))
        return output

    def _weight(self, values: npt.NDArray[np.float32]) -> str:
        largest = np.finfo(self._precision).max
        return self._constant(values.clip(-largest, largest).astype(self._precision))

    def _constant(self, values: npt.NDArray[Any]) -> str:
        name = f"weight_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.array(values, order="C"), name))
        return name
