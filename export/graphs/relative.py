"""DeBERTa's unpadded graph, made of its `Encoder`: for batches of one length, without attention mask.

An exporter's graph copies the relative positions for every pair, and gathers each score by an index of its own. Here
they are constants, taken at the distances that two tokens of a batch can have. A row of products has the order of
distances, and neighbouring keys are at neighbouring distances: each query reads its row from another place on (Dai et
al., arXiv 1901.02860, appendix B). What that adds to the scores is the bias of one `MultiHeadAttention`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from pairscore.export.encoder.formula import Encoder, Layer, Linear, Norm, Relative
from pairscore.export.graphs.editing import MICROSOFT
from pairscore.export.graphs.rewrites import Rewritten
from pairscore.export.graphs.unpadded import proved

_OPSET = 17
_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "gelu": "Gelu", "gelu_tanh": "FastGelu"}

# The name of a tensor, or a constant.
_Input = str | npt.NDArray[Any] | Sequence[int]


def unpadded_relative(model: onnx.ModelProto, encoder: Encoder, max_length: int) -> Rewritten:
    """The unpadded graph of `encoder`, which `model` computes; `model` itself where their logits differ."""
    return proved(model, relative_graph(encoder), len(encoder.layers), max_length)


def relative_graph(encoder: Encoder) -> onnx.ModelProto:
    """The graph of an encoder with relative positions whose head reads the first row.

    Its inputs are input_ids and, of several types of tokens, token_type_ids.
    """
    return _Builder(encoder).model()


class _Builder:
    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        encoder = self._encoder
        typed = encoder.types is not None and len(encoder.types) > 1
        length = self._add("Slice", "length", self._add("Shape", "shape", "input_ids"), [1], [2])
        rows = self._layers(self._embedded(length, typed=typed), length)
        rows = self._add("Squeeze", "pooled", rows, [1])
        for number, each in enumerate(encoder.head):
            name = f"head.{number}"
            rows = self._activated(name, each.activation, self._linear(f"{name}.sum", each.linear, rows))
            if each.norm is not None:
                rows = self._norm(f"{name}.norm", rows, each.norm, each.epsilon)
        self._nodes.append(helper.make_node("Identity", [rows], ["logits"]))
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

    def _embedded(self, length: str, *, typed: bool) -> str:
        encoder = self._encoder
        rows = self._add("Gather", "words", encoder.words, "input_ids")
        if encoder.positions is not None:
            placed = self._add("Slice", "positions", encoder.positions, [0], length, [0])
            rows = self._add("Add", "words_and_positions", rows, placed)
        if encoder.types is not None:
            types = self._add("Gather", "types", encoder.types, "token_type_ids") if typed else encoder.types[0]
            rows = self._add("Add", "embeddings", rows, types)
        return self._norm("embeddings.norm", rows, encoder.embedding_norm, encoder.epsilon)

    def _layers(self, rows: str, length: str) -> str:
        """Of the last layer only the first row of each pair, Shape (batch, 1, hidden)."""
        table = self._encoder.relative_rows
        if table is None:
            raise ValueError("the encoder has no relative positions")
        # From 1 - length to length: the last one is of no pair, and makes as many places as `_shifted` needs.
        longest = [self._encoder.longest]
        first, end = self._add("Sub", "from", longest, length), self._add("Add", "to", longest, length)
        key_less_query, query_less_key = (
            self._add("Slice", name, np.append(each, 0).astype(np.int64), first, end)
            for name, each in (("key_less_query", table[::-1]), ("query_less_key", table))
        )
        # From 0 to length - 1.
        ahead = self._add("Slice", "ahead", key_less_query, self._add("Sub", "before_zero", length, [1]), [-1])
        *whole, narrow = self._encoder.layers
        for number, layer in enumerate(whole):
            query, key = (self._linear(f"{number}.{name}", getattr(layer, name), rows) for name in ("query", "key"))
            positions = _known(layer)
            of_queries = self._shifted(f"{number}.of_queries", query, positions.key, key_less_query, length)
            of_keys = self._shifted(f"{number}.of_keys", key, positions.query, query_less_key, length)
            of_keys = self._add("Transpose", f"{number}.of_keys.turned", of_keys, perm=[0, 1, 3, 2])
            bias = self._add("Add", f"{number}.bias", of_queries, of_keys)
            rows = self._layer(str(number), layer, rows, rows, (query, key, bias))
        return self._narrow_layer(str(len(whole)), narrow, rows, ahead)

    def _narrow_layer(self, name: str, layer: Layer, rows: str, ahead: str) -> str:
        """A layer of which the first row is needed. ahead: positions of the keys' distances from that row."""
        asking = self._add("Slice", f"{name}.first", rows, [0], [1], [1])
        query, key = self._linear(f"{name}.query", layer.query, asking), self._linear(f"{name}.key", layer.key, rows)
        positions = _known(layer)
        keys = self._add("Gather", f"{name}.position_keys", self._by_head(positions.key).mT, ahead, axis=2)
        of_queries = self._add("MatMul", f"{name}.of_queries", self._heads(query), keys)
        queries = self._add("Gather", f"{name}.position_queries", self._by_head(positions.query), ahead, axis=1)
        products = self._add("Mul", f"{name}.products", self._heads(key), queries)
        of_keys = self._add("ReduceSum", f"{name}.of_keys", products, [3], keepdims=0)
        of_keys = self._add("Unsqueeze", f"{name}.of_keys.row", of_keys, [2])
        bias = self._add("Add", f"{name}.bias", of_queries, of_keys)
        return self._layer(name, layer, rows, asking, (query, key, bias))

    def _layer(self, name: str, layer: Layer, rows: str, asking: str, scored: tuple[str, str, str]) -> str:
        """scored: queries of `asking`, keys of `rows`, and what positions add to their scores."""
        query, key, bias = scored
        # Attention's weights add up to one: the values' bias comes through, and is added behind the next product.
        value = self._add("MatMul", f"{name}.value", rows, layer.value.weight.T)
        behind = layer.output.bias + layer.output.weight @ layer.value.bias
        inputs = (query, key, value, "", "", bias)
        heads = self._encoder.heads
        context = self._add("MultiHeadAttention", f"{name}.context", *inputs, domain=MICROSOFT, num_heads=heads)
        output = self._add("MatMul", f"{name}.output", context, layer.output.weight.T)
        attended = self._skip_norm(f"{name}.attention_norm", output, asking, layer.attention_norm, behind)
        inner = self._inner(f"{name}.up", layer.up, attended)
        down = self._add("MatMul", f"{name}.down", inner, layer.down.weight.T)
        return self._skip_norm(f"{name}.output_norm", down, attended, layer.output_norm, layer.down.bias)

    def _shifted(self, name: str, rows: str, table: npt.NDArray[np.float32], distances: str, length: str) -> str:
        """Products of rows with the positions of a table: of row i, those of the distances -i, 1 - i, ...

        Shape (batch, heads, length, length). In memory, row i of 2 * length places begins one place later for each i
        in rows of 2 * length - 1.
        """
        positions = self._add("Gather", f"{name}.positions", self._by_head(table).mT, distances, axis=2)
        products = self._add("MatMul", name, self._heads(rows), positions)
        line = self._add("Reshape", f"{name}.line", products, [0, 0, -1])
        before = self._add("Sub", f"{name}.before", length, [1])
        line = self._add("Slice", f"{name}.shifted", line, before, [-1], [2])
        shape = self._add("Concat", f"{name}.shape", [0, 0], length, [-1], axis=0)
        return self._add("Slice", f"{name}.square", self._add("Reshape", f"{name}.rows", line, shape), [0], length, [3])

    def _heads(self, rows: str) -> str:
        """Shape (batch, length, hidden) to (batch, heads, length, columns)."""
        name = f"{rows}.heads"
        split = self._add("Reshape", f"{name}.split", rows, [0, 0, self._encoder.heads, -1])
        return self._add("Transpose", name, split, perm=[0, 2, 1, 3])

    def _by_head(self, table: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Positions times the scale of scores, Shape (heads, positions, columns)."""
        by_head = table.reshape(len(table), self._encoder.heads, -1).swapaxes(0, 1)
        return by_head * np.float32(by_head.shape[-1] ** -0.5)

    def _linear(self, name: str, linear: Linear, rows: str) -> str:
        product = self._add("MatMul", f"{name}.product", rows, linear.weight.T)
        return self._add("Add", name, product, linear.bias)

    def _inner(self, name: str, up: Linear, rows: str) -> str:
        """activation(up(rows)), with the bias in one pass where ONNX Runtime can."""
        activation = self._encoder.activation
        fused = {"gelu": "BiasGelu", "gelu_tanh": "FastGelu"}.get(activation)
        if fused is None:
            return self._activated(f"{name}.activated", activation, self._linear(name, up, rows))
        product = self._add("MatMul", f"{name}.product", rows, up.weight.T)
        return self._add(fused, name, product, up.bias, domain=MICROSOFT)

    def _activated(self, name: str, activation: str, rows: str) -> str:
        if activation == "none":
            return rows
        domain = MICROSOFT if "gelu" in activation else ""
        return self._add(_ACTIVATIONS[activation], f"{name}.{activation}", rows, domain=domain)

    def _norm(self, name: str, rows: str, norm: Norm, epsilon: float) -> str:
        return self._add("LayerNormalization", name, rows, norm.weight, norm.bias, epsilon=epsilon)

    def _skip_norm(self, name: str, rows: str, before: str, norm: Norm | None, bias: npt.NDArray[np.float32]) -> str:
        """The norm of rows + before + bias."""
        if norm is None:
            raise ValueError(f"{name} is missing")
        inputs = (rows, before, norm.weight, norm.bias, bias)
        epsilon = self._encoder.epsilon
        return self._add("SkipLayerNormalization", name, *inputs, domain=MICROSOFT, epsilon=epsilon)

    def _add(self, kind: str, name: str, *inputs: _Input, domain: str = "", **attributes: Any) -> str:
        """A node that gives the tensor `name`; returns that name."""
        names = [
            each if isinstance(each, str) else self._constant(f"{name}/{i}", each) for i, each in enumerate(inputs)
        ]
        self._nodes.append(helper.make_node(kind, names, [name], name=name, domain=domain, **attributes))
        return name

    def _constant(self, name: str, value: npt.NDArray[Any] | Sequence[int]) -> str:
        array = value if isinstance(value, np.ndarray) else np.array(value, np.int64)
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name


def _known(layer: Layer) -> Relative:
    if layer.relative is None:
        raise ValueError("a layer has no relative positions")
    return layer.relative
