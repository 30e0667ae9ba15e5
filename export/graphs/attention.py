"""Attention in a graph: found by its form, `softmax(query key^T) value`, and proved by its values.

What the graph computed on two probes has to be what the formula gives; so a relative position, a window or a second
score is never taken for plain attention.
"""

from dataclasses import dataclass

import numpy as np
import onnx

from pairscore.export.graphs.probe import Probe

# How far what a graph computed may be from what the formula gives.
TOLERANCE = 1e-4
# What may stand between the product of queries and keys and the softmax: scaling and masking.
_SCALING_AND_MASKING = frozenset({"Add", "Sub", "Mul", "Div", "Where", "Cast", "Identity"})
# What may stand between a projection and the product that it enters: split into heads, transposed, scaled.
_SPLITTING = frozenset({"Reshape", "Transpose", "Mul", "Div", "Cast", "Identity"})


@dataclass(frozen=True)
class Attention:
    """Tensor names. `query`, `context`: Shape (batch, rows, hidden). `key`, `value`: Shape (batch, length, hidden)."""

    query: str
    key: str
    value: str
    context: str
    heads: int


def find_attentions(model: onnx.ModelProto, probe: Probe) -> tuple[list[Attention], int]:
    """The attentions that were recognised, in the graph's order, and how many there are at all."""
    traced = _Traced(model, probe)
    softmaxes = [node for node in model.graph.node if node.op_type == "Softmax" and traced.rank(node.output[0]) == 4]
    found = [each for node in softmaxes if (each := traced.attention(node)) is not None]
    return found, len(softmaxes)


class _Traced:
    """A graph and the value that every tensor had on the probes."""

    def __init__(self, model: onnx.ModelProto, probe: Probe) -> None:
        self._probe = probe
        self._producer = {name: node for node in model.graph.node for name in node.output}
        self._consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._consumers.setdefault(name, []).append(node)

    def rank(self, name: str) -> int:
        """How many axes a tensor has."""
        return len(self._probe.shape(name))

    def attention(self, softmax: onnx.NodeProto) -> Attention | None:
        """The attention around a softmax; None where it is not `softmax(query key^T / sqrt(head size)) value`."""
        (product,) = self._consumers.get(softmax.output[0], [None])[:1]
        scores = self._scores(softmax.input[0])
        if product is None or product.op_type != "MatMul" or scores is None:
            return None
        context = self._joined(product.output[0])
        names = [self._projection(name) for name in (*scores.input, product.input[1])]
        if context is None or None in names:
            return None
        query, key, value = map(str, names)
        found = Attention(query, key, value, context, heads=self._probe.shape(softmax.output[0])[1])
        return found if self._computes(found) else None

    def _scores(self, name: str) -> onnx.NodeProto | None:
        """The matrix product that `name` is made of by scaling and masking, which keep its shape."""
        node = self._producer.get(name)
        if node is None or node.op_type == "MatMul":
            return node
        if node.op_type not in _SCALING_AND_MASKING:
            return None
        same = [each for each in node.input if self._probe.shape(each) == self._probe.shape(name)]
        return next(filter(None, map(self._scores, same)), None)

    def _projection(self, name: str) -> str | None:
        """The tensor of Shape (batch, rows, hidden) that was split into heads to become `name`."""
        while self.rank(name) != 3:
            node = self._producer.get(name)
            if node is None or node.op_type not in _SPLITTING:
                return None
            name = next((each for each in node.input if self._probe.constant(each) is None), "")
            if not name:
                return None
        return name

    def _joined(self, name: str) -> str | None:
        """The tensor of Shape (batch, rows, hidden) that the heads of `name` are joined into."""
        while self.rank(name) != 3:
            consumers = [node for node in self._consumers.get(name, []) if node.op_type != "Shape"]
            if len(consumers) != 1 or consumers[0].op_type not in ("Transpose", "Reshape"):
                return None
            name = consumers[0].output[0]
        return name

    def _computes(self, found: Attention) -> bool:
        """Whether the context is what the formula gives, on every probe."""
        for values in self._probe.values:
            query, key, value = (_heads(values[name], found.heads) for name in (found.query, found.key, found.value))
            if query.shape[-1] != key.shape[-1] or key.shape[2] != value.shape[2]:
                return False
            scores = query @ key.swapaxes(2, 3) / np.sqrt(query.shape[-1])
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            expected = (weights / weights.sum(axis=-1, keepdims=True)) @ value
            batch, heads, rows, size = expected.shape
            joined = expected.swapaxes(1, 2).reshape(batch, rows, heads * size)
            context = values[found.context]
            if joined.shape != context.shape or not np.allclose(joined, context, atol=TOLERANCE, rtol=TOLERANCE):
                return False
        return True


def _heads(tensor: np.ndarray, heads: int) -> np.ndarray:
    """Shape (batch, rows, hidden) to (batch, heads, rows, hidden / heads), in float64."""
    batch, rows, hidden = tensor.shape
    return tensor.astype(np.float64).reshape(batch, rows, heads, hidden // heads).swapaxes(1, 2)
