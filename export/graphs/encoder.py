"""A post-norm transformer encoder (BERT and its family): its weights, read off a graph, and the formula of its logits.

tokens -> embeddings (words + positions + types, norm, projection) -> layers -> first row -> head -> logits
layer: x = norm(x + output(attention(query(x), key(x), value(x)))); x = norm(x + down(activation(up(x))))
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pairscore.runtime.types import FloatArray, Int32Array

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
    "tanh": torch.tanh,
}


@dataclass(frozen=True)
class Linear:
    """`weight`: Shape (outputs, inputs), `bias`: Shape (outputs,). `input`: the tensor of the graph that it reads."""

    input: str
    weight: FloatArray
    bias: FloatArray


@dataclass(frozen=True)
class Norm:
    """`weight`, `bias`: Shape (width,)."""

    weight: FloatArray
    bias: FloatArray


@dataclass(frozen=True)
class Layer:
    """One layer's products and norms; `output` follows the attention."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    output_norm: Norm

    def products(self) -> dict[str, Linear]:
        """The matrix products by name, in the order in which they run."""
        names = ("query", "key", "value", "output", "up", "down")
        return {name: getattr(self, name) for name in names}


# (name as `layers.3.up`, layer, rows) -> the layer's output. rows: Shape (..., inputs).
Product = Callable[[str, Linear, torch.Tensor], torch.Tensor]


def exact(name: str, linear: Linear, rows: torch.Tensor) -> torch.Tensor:
    """The product in fp32."""
    del name
    return functional.linear(rows, torch.from_numpy(linear.weight), torch.from_numpy(linear.bias))


@dataclass(frozen=True)
class Encoder:
    """The whole model. `words`, `positions`, `types`: tables, one row an id; `types` None where there are none.

    The token at place i has the position id i + `position_offset`. Where `padding_id` is given, tokens of that id are
    not counted and have the position id `padding_id`, as RoBERTa does it. `projection`: from the embeddings' width to
    the layers', where they differ. `activation`: of the feed-forward, one of `ACTIVATIONS`. `head`: linear layers on
    the first row, each with its activation.
    """

    words: FloatArray
    positions: FloatArray
    types: FloatArray | None
    position_offset: int
    padding_id: int | None
    embedding_norm: Norm
    projection: Linear | None
    heads: int
    layers: tuple[Layer, ...]
    activation: str
    epsilon: float
    head: tuple[tuple[Linear, str], ...]

    @property
    def hidden(self) -> int:
        """The width of the layers."""
        return len(self.layers[0].query.weight)

    @property
    def intermediate(self) -> int:
        """The width of the feed-forward."""
        return len(self.layers[0].up.weight)

    @property
    def longest(self) -> int:
        """Tokens of the longest pair that has positions."""
        return len(self.positions) - self.position_offset

    def products(self) -> Iterator[tuple[str, Linear]]:
        """Every layer's matrix products, by names as `layers.3.up`."""
        for number, layer in enumerate(self.layers):
            for name, linear in layer.products().items():
                yield f"layers.{number}.{name}", linear

    def position_ids(self, input_ids: Int32Array) -> npt.NDArray[np.int64]:
        """Rows of `positions`, Shape (n, length)."""
        if self.padding_id is None:
            return np.broadcast_to(np.arange(input_ids.shape[1]) + self.position_offset, input_ids.shape)
        counted = input_ids != self.padding_id
        ids: npt.NDArray[np.int64] = np.cumsum(counted, axis=1) * counted + self.padding_id
        return ids

    def logits(
        self, input_ids: Int32Array, token_type_ids: Int32Array | None = None, product: Product = exact
    ) -> FloatArray:
        """The formula, written to be read, in fp32. input_ids: Shape (n, length), all of one length.

        product: computes the layers' matrix products. Returns Shape (n, labels).
        """
        embedded = self.words[input_ids] + self.positions[self.position_ids(input_ids)]
        if self.types is not None:
            embedded = embedded + self.types[np.zeros_like(input_ids) if token_type_ids is None else token_type_ids]
        rows = self._norm(torch.from_numpy(embedded), self.embedding_norm)
        if self.projection is not None:
            rows = exact("projection", self.projection, rows)
        activate = ACTIVATIONS[self.activation]
        for number, layer in enumerate(self.layers):
            name = f"layers.{number}"
            query, key, value = (
                self._heads(product(f"{name}.{which}", linear, rows))
                for which, linear in (("query", layer.query), ("key", layer.key), ("value", layer.value))
            )
            context = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
            rows = self._norm(rows + product(f"{name}.output", layer.output, context), layer.attention_norm)
            inner = activate(product(f"{name}.up", layer.up, rows))
            rows = self._norm(rows + product(f"{name}.down", layer.down, inner), layer.output_norm)
        first = rows[:, 0]
        for linear, activation in self.head:
            first = ACTIVATIONS[activation](exact("head", linear, first))
        logits: FloatArray = first.numpy()
        return logits

    def _norm(self, rows: torch.Tensor, norm: Norm) -> torch.Tensor:
        weight, bias = torch.from_numpy(norm.weight), torch.from_numpy(norm.bias)
        return functional.layer_norm(rows, weight.shape, weight, bias, self.epsilon)

    def _heads(self, rows: torch.Tensor) -> torch.Tensor:
        """Shape (n, length, hidden) to (n, heads, length, columns)."""
        return rows.reshape(*rows.shape[:2], self.heads, -1).transpose(1, 2)
