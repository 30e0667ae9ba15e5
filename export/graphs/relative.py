"""DeBERTa's unpadded graph.

An exporter's graph copies the relative positions for every pair, and gathers each score by an index of its own. Here
they are constants, taken at the distances that two tokens of a batch can have. A row of products has the order of
distances, and neighbouring keys are at neighbouring distances: each query reads its row from another place on (Dai et
al., arXiv 1901.02860, appendix B). What that adds to the scores is the bias of one `MultiHeadAttention`.
"""

import numpy as np
from onnx_ir import Value

from pairscore.export.encoder.formula import Layer, Relative
from pairscore.export.graphs.writer import Writer
from pairscore.runtime.types import FloatArray


class RelativeWriter(Writer):
    """The graph of an encoder with relative positions whose head reads the first row."""

    def layers(self, rows: Value, length: Value) -> Value:
        """Of the last layer only the first row of each pair, Shape (batch, 1, hidden)."""
        table = self.encoder.relative_rows
        if table is None:
            raise ValueError("the encoder has no relative positions")
        # From 1 - length to length: the last one is of no pair, and makes as many places as `_shifted` needs.
        longest = [self.encoder.longest]
        first, end = self.add("Sub", "from", longest, length), self.add("Add", "to", longest, length)
        key_less_query, query_less_key = (
            self.add("Slice", name, np.append(each, 0).astype(np.int64), first, end)
            for name, each in (("key_less_query", table[::-1]), ("query_less_key", table))
        )
        # From 0 to length - 1.
        ahead = self.add("Slice", "ahead", key_less_query, self.add("Sub", "before_zero", length, [1]), [-1])
        *whole, narrow = self.encoder.layers
        for number, layer in enumerate(whole):
            query, key = (self.linear(f"{number}.{name}", getattr(layer, name), rows) for name in ("query", "key"))
            positions = _known(layer)
            of_queries = self._shifted(f"{number}.of_queries", query, positions.key, key_less_query, length)
            of_keys = self._shifted(f"{number}.of_keys", key, positions.query, query_less_key, length)
            of_keys = self.add("Transpose", f"{number}.of_keys.turned", of_keys, perm=[0, 1, 3, 2])
            bias = self.add("Add", f"{number}.bias", of_queries, of_keys)
            rows = self.layer(str(number), layer, rows, rows, (query, key, bias))
        return self._narrow_layer(str(len(whole)), narrow, rows, ahead)

    def _narrow_layer(self, name: str, layer: Layer, rows: Value, ahead: Value) -> Value:
        """A layer of which the first row is needed. ahead: positions of the keys' distances from that row."""
        asking = self.add("Slice", f"{name}.first", rows, [0], [1], [1])
        query, key = self.linear(f"{name}.query", layer.query, asking), self.linear(f"{name}.key", layer.key, rows)
        positions = _known(layer)
        keys = self.add("Gather", f"{name}.position_keys", self._by_head(positions.key).mT, ahead, axis=2)
        of_queries = self.add("MatMul", f"{name}.of_queries", self._heads(query), keys)
        queries = self.add("Gather", f"{name}.position_queries", self._by_head(positions.query), ahead, axis=1)
        products = self.add("Mul", f"{name}.products", self._heads(key), queries)
        of_keys = self.add("ReduceSum", f"{name}.of_keys", products, [3], keepdims=0)
        of_keys = self.add("Unsqueeze", f"{name}.of_keys.row", of_keys, [2])
        bias = self.add("Add", f"{name}.bias", of_queries, of_keys)
        return self.layer(name, layer, rows, asking, (query, key, bias))

    def _shifted(self, name: str, rows: Value, table: FloatArray, distances: Value, length: Value) -> Value:
        """Products of rows with the positions of a table: of row i, those of the distances -i, 1 - i, ...

        Shape (batch, heads, length, length). In memory, row i of 2 * length places begins one place later for each i
        in rows of 2 * length - 1.
        """
        positions = self.add("Gather", f"{name}.positions", self._by_head(table).mT, distances, axis=2)
        products = self.add("MatMul", name, self._heads(rows), positions)
        line = self.add("Reshape", f"{name}.line", products, [0, 0, -1])
        before = self.add("Sub", f"{name}.before", length, [1])
        line = self.add("Slice", f"{name}.shifted", line, before, [-1], [2])
        shape = self.add("Concat", f"{name}.shape", [0, 0], length, [-1], axis=0)
        return self.add("Slice", f"{name}.square", self.add("Reshape", f"{name}.rows", line, shape), [0], length, [3])

    def _heads(self, rows: Value) -> Value:
        """Shape (batch, length, hidden) to (batch, heads, length, columns)."""
        name = f"{rows.name}.heads"
        split = self.add("Reshape", f"{name}.split", rows, [0, 0, self.encoder.heads, -1])
        return self.add("Transpose", name, split, perm=[0, 2, 1, 3])

    def _by_head(self, table: FloatArray) -> FloatArray:
        """Positions times the scale of scores, Shape (heads, positions, columns)."""
        by_head = table.reshape(len(table), self.encoder.heads, -1).swapaxes(0, 1)
        return by_head * np.float32(by_head.shape[-1] ** -0.5)


def _known(layer: Layer) -> Relative:
    if layer.relative is None:
        raise ValueError("a layer has no relative positions")
    return layer.relative
