"""Read ModernBERT off a graph: norms precede products, positions turn queries and keys, the feed-forward is gated.

Query, key and value are columns of one product, cut out, turned and transposed in as many ways as there are exporters.
So they are known by their values: which columns of the product, turned by which angles, give what enters the softmax.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from onnx import helper
from torch.nn import functional

from pairscore.export.graphs.editing import attribute, session_of
from pairscore.export.graphs.encoder import ACTIVATIONS, Encoder, Layer, Linear, Modern, seen, turned
from pairscore.export.graphs.probe import random_feed
from pairscore.export.graphs.reading import ELEMENTWISE, REARRANGING, GraphReader, NotRecognisedError, as_float
from pairscore.runtime.types import FloatArray

# Pairs of more tokens are not run to see how far a token looks.
LONGEST_READ = 1024
# How far what a graph computed may be from what the formula gives.
_TOLERANCE = 1e-4
# Scores below are masked.
_MASKED = -1e30
_TURNING = REARRANGING | {"Add", "Sub", "Mul", "Neg"}
_MASKING = frozenset({"Add", "Sub", "Mul", "Div", "Where", "Cast", "Identity"})

_Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Part:
    """Some of the outputs of a linear layer. `values`: on every probe, Shape (batch, rows, columns)."""

    linear: Linear
    values: list[_Array]


@dataclass(frozen=True)
class _Attention:
    query: Linear
    key: Linear
    value: Linear
    heads: int
    window: int
    frequencies: FloatArray


def is_modernbert(graph: GraphReader, last: str) -> bool:
    """Whether the norm `last` reads a sum whose other summand is itself a sum: a stream that no norm interrupts."""
    node = graph.producer[graph.origin(last)]
    total = graph.total(node.input[0])
    if total is None or graph.linear(total[1]) is not None:
        return False
    return _produced_by(graph, "Add")(total[1])


def read_modernbert(graph: GraphReader, last: str, max_length: int) -> Encoder:
    """The encoder whose final norm gives the tensor `last`; its head is left empty. Raises NotRecognisedError."""
    final_norm, name = graph.norm(last, "the encoder")
    scores = [
        node.input[0]
        for node in graph.model.graph.node
        if node.op_type == "Softmax" and len(graph.probe.shape(node.output[0])) == 4
    ]
    windows = _windows(graph.model, scores, min(max_length, LONGEST_READ))
    layers: list[Layer] = []
    activations, heads = set(), set()
    while not graph.is_norm(name):  # the stream begins behind the embeddings' norm
        layer, activation, count, name = _layer(graph, name, f"layer {len(layers)} from the end", windows)
        layers.insert(0, layer)
        activations.add(activation)
        heads.add(count)
    if [layer.attention_norm is None for layer in layers] != [place == 0 for place in range(len(layers))]:
        raise NotRecognisedError("its norms before the attention are not those of all layers but the first")
    norm, embedded = graph.norm(name, "the embeddings")
    node = graph.producer.get(graph.origin(embedded))
    words = None if node is None or node.op_type != "Gather" else graph.probe.constant(node.input[0])
    if node is None or words is None or words.ndim != 2 or graph.origin(node.input[1]) != "input_ids":
        raise NotRecognisedError("its embeddings are not rows of one table of words")
    if attribute(node, "axis", 0) != 0:
        raise NotRecognisedError("its embeddings are columns of a table")
    return Encoder(
        words=as_float(words),
        positions=None,
        types=None,
        position_offset=0,
        padding_id=None,
        embedding_norm=norm,
        projection=None,
        heads=graph.only("numbers of heads", heads),
        layers=tuple(layers),
        activation=graph.only("activations", activations),
        epsilon=graph.only("epsilons", graph.epsilons),
        final_norm=final_norm,
        pooling="first",
        length=max_length,
        head=(),
    )


def _layer(graph: GraphReader, name: str, where: str, windows: dict[str, int]) -> tuple[Layer, str, int, str]:
    """The layer that leaves `name` in the stream: its weights, activation, heads, and the tensor that it found."""
    down_output, middle = _sum(graph, name, f"the feed-forward of {where}")
    down = graph.needed(down_output, where)
    up, gate, activation = _gated(graph, down.input, where)
    output_norm, read = graph.norm(up.input, f"what the feed-forward of {where} reads")
    graph.same(read, middle, f"the feed-forward of {where}")
    output_output, before = _sum(graph, middle, f"the attention of {where}")
    output = graph.needed(output_output, where)
    found = _attention(graph, output.input, windows, where)
    attention_norm = None
    for each in (found.query, found.key, found.value):
        if graph.origin(each.input) != graph.origin(before):
            attention_norm, read = graph.norm(each.input, f"what the attention of {where} reads")
            graph.same(read, before, f"the attention of {where}")
    modern = Modern(gate, found.window, found.frequencies)
    layer = Layer(found.query, found.key, found.value, output, attention_norm, up, down, output_norm, modern)
    return layer, activation, found.heads, before


def _sum(graph: GraphReader, name: str, what: str) -> tuple[str, str]:
    total = graph.total(name)
    if total is None:
        raise NotRecognisedError(f"{what} is not added to the residual stream")
    return total


def _gated(graph: GraphReader, name: str, where: str) -> tuple[Linear, Linear, str]:
    """`up`, `gate` and the activation with which activation(up) * gate is the tensor `name`."""
    sources = list(graph.reached(name, ELEMENTWISE | REARRANGING, _is_linear(graph)))
    parts = [_part(graph, each) for each in sources]
    if len(parts) == 1:
        half = len(parts[0].linear.weight) // 2
        parts = [_columns(parts[0], 0, half), _columns(parts[0], half, 2 * half)]
    if len(parts) != 2:
        raise NotRecognisedError(
            f"the feed-forward of {where} joins {len(parts)} linear layers, not a value and a gate"
        )
    for up, gate in (parts, parts[::-1]):
        for activation, function in ACTIVATIONS.items():
            made = [
                function(torch.from_numpy(first)).numpy() * second
                for first, second in zip(up.values, gate.values, strict=True)
            ]
            if _equal(made, [values[name] for values in graph.probe.values]):
                return up.linear, gate.linear, activation
    raise NotRecognisedError(f"the activation of {where}, times a gate, is none of {', '.join(ACTIVATIONS)}")


# Attention ---------------------------------------------------------------------------------------------


def _softmax(graph: GraphReader, context: str, where: str) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """The softmax, and its product with the values, which gives the tensor `context`."""
    for name in graph.reached(context, REARRANGING, _produced_by(graph, "MatMul")):
        product = graph.producer[name]
        for weights in graph.reached(product.input[0], {"Cast", "Identity"}, _produced_by(graph, "Softmax")):
            return graph.producer[weights], product
    raise NotRecognisedError(f"the first product of {where} does not read an attention")


def _attention(graph: GraphReader, context: str, windows: dict[str, int], where: str) -> _Attention:
    """Query, key and value of the attention that gives `context`, proved by what the graph computed on every probe."""
    softmax, product = _softmax(graph, context, where)
    scores = next(graph.reached(softmax.input[0], _MASKING, _produced_by(graph, "MatMul")), None)
    if scores is None:
        raise NotRecognisedError(f"{where} has no product of queries and keys")
    query_name, key_name = graph.producer[scores].input
    queries, keys, values = (
        [probed[name] for probed in graph.probe.values] for name in (query_name, key_name, product.input[1])
    )
    keys = [each.swapaxes(2, 3) for each in keys]
    frequencies = _frequencies(graph, key_name, keys[0].shape[-1], where)
    query = _cut_out(graph, query_name, queries, frequencies, where)
    key = _cut_out(graph, key_name, keys, frequencies, where)
    value = _cut_out(graph, product.input[1], values, None, where)
    window = windows[softmax.input[0]]
    for probed, *heads in zip(graph.probe.values, queries, keys, values, strict=True):
        query_heads, key_heads, value_heads = (torch.from_numpy(each.copy()) for each in heads)
        mask = seen(key_heads.shape[2], window)
        made = functional.scaled_dot_product_attention(
            query_heads, key_heads, value_heads, None if mask is None else mask[: query_heads.shape[2]]
        )
        if not _equal([made.transpose(1, 2).flatten(2).numpy()], [probed[context]]):
            raise NotRecognisedError(f"the attention of {where} is not softmax(query keyᵀ) value of a window")
    return _Attention(query, key, value, queries[0].shape[1], window, frequencies)


def _frequencies(graph: GraphReader, key: str, columns: int, where: str) -> FloatArray:
    """Radians from one position to the next, of half of a head's columns: the angles at position 1."""
    cosine = next(graph.reached(key, _TURNING, _produced_by(graph, "Cos")), None)
    angles = None if cosine is None else graph.probe.values[0][graph.producer[cosine].input[0]]
    if angles is None or angles.shape[-1] < columns // 2:
        raise NotRecognisedError(f"{where} has no rotary positions")
    return as_float(angles.reshape(-1, angles.shape[-1])[1, : columns // 2])


def _cut_out(graph: GraphReader, name: str, heads: list[_Array], frequencies: FloatArray | None, where: str) -> Linear:
    """The columns of a linear layer that `name` is, turned by the angles of their positions where there are any.

    heads: its values on every probe, Shape (batch, heads, rows, columns of a head).
    """
    _, count, _, size = heads[0].shape
    for source in graph.reached(name, _TURNING, _is_linear(graph)):
        whole = _part(graph, source)
        for first in range(0, whole.values[0].shape[-1] - count * size + 1, count * size):
            part = _columns(whole, first, first + count * size)
            made = [each.reshape(*each.shape[:2], count, size).swapaxes(1, 2) for each in part.values]
            if frequencies is not None:
                made = [turned(torch.from_numpy(each.copy()), frequencies).numpy() for each in made]
            if _equal([each[:, :, : wanted.shape[2]] for each, wanted in zip(made, heads, strict=True)], heads):
                return part.linear
    raise NotRecognisedError(
        f"the attention of {where} reads something else than columns of a linear layer, turned by their positions"
    )


def _windows(model: onnx.ModelProto, scores: list[str], length: int) -> dict[str, int]:
    """The window of each attention, by what its softmax reads: twice how far a token looks in pairs of `length`."""
    traced = deepcopy(model)
    traced.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in scores)
    session = session_of(traced, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    feeds = {each.name: random_feed(each.name, 1, length) for each in session.get_inputs()}
    found = {}
    for name in scores:
        (values,) = session.run([name], feeds)
        rows, columns = np.nonzero((np.asarray(values) > _MASKED).any(axis=(0, 1)))
        reach = int(np.abs(rows - columns).max())
        found[name] = 0 if reach >= length - 1 else 2 * reach
    return found


# Linear layers, in parts ----------------------------------------------------------------------------------


def _part(graph: GraphReader, name: str) -> _Part:
    """The whole linear layer that gives `name`."""
    values = [probed[graph.origin(name)] for probed in graph.probe.values]
    return _Part(graph.needed(name, name), values)


def _columns(part: _Part, first: int, stop: int) -> _Part:
    weight, bias = part.linear.weight[first:stop], part.linear.bias[first:stop]
    linear = Linear(part.linear.input, as_float(weight), as_float(bias))
    return _Part(linear, [each[..., first:stop] for each in part.values])


def _equal(made: list[_Array], expected: list[_Array]) -> bool:
    return all(
        ours.shape == wanted.shape and np.allclose(ours, wanted, rtol=_TOLERANCE, atol=_TOLERANCE)
        for ours, wanted in zip(made, expected, strict=True)
    )


def _is_linear(graph: GraphReader) -> Callable[[str], bool]:
    return lambda name: graph.linear(name) is not None


def _produced_by(graph: GraphReader, kind: str) -> Callable[[str], bool]:
    return lambda name: name in graph.producer and graph.producer[name].op_type == kind
