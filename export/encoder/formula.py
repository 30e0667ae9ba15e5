"""A transformer encoder of one of two kinds: its weights, and the formula of its logits.

tokens -> embeddings (words + positions + types, norm, projection) -> layers -> first row or mean -> head -> logits
BERT's layer: x = norm(x + output(attention(query(x), key(x), value(x)))); x = norm(x + down(activation(up(x))))
ModernBERT's layer: y = norm(x); x = x + output(attention(turned(query(y)), turned(key(y)), value(y)));
                    y = norm(x); x = x + down(activation(up(y)) * gate(y)); after the last one x = norm(x)
turned: by angles that grow with the position (Su et al., arXiv 2104.09864), in the place of a table of positions.
DeBERTa's layer is BERT's, with scores that also depend on distances (He et al., arXiv 2006.03654 and 2111.09543): query
and key are multiplied by a key and a query of the relative position, too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

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


class Rows(NamedTuple):
    """What a product reads: the input of PyTorch's `module`, or of that only the first token's row."""

    module: str
    first_only: bool = False


@dataclass(frozen=True)
class Linear:
    """`weight`: Shape (outputs, inputs), `bias`: Shape (outputs,)."""

    input: Rows
    weight: FloatArray
    bias: FloatArray


@dataclass(frozen=True)
class Norm:
    """`weight`, `bias`: Shape (width,)."""

    weight: FloatArray
    bias: FloatArray


@dataclass(frozen=True)
class Modern:
    """How ModernBERT's attention sees positions. `window`: a token sees those at most window // 2 away; 0: all.
    `frequencies`: Shape (columns of a head / 2,), radians from one position to the next.
    """

    window: int
    frequencies: FloatArray


@dataclass(frozen=True)
class Relative:
    """What is DeBERTa's own in a layer: its `key` and `query` of each relative position, Shape (positions, hidden)."""

    key: FloatArray
    query: FloatArray


@dataclass(frozen=True)
class Layer:
    """One layer's products and norms; `output` follows the attention.

    ModernBERT's norms precede the attention and the feed-forward, its first layer has no `attention_norm`, and its
    feed-forward has a second factor, `gate`. BERT's norms follow them, and `gate` and `modern` are None.
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    attention_norm: Norm | None
    up: Linear
    down: Linear
    output_norm: Norm
    gate: Linear | None = None
    modern: Modern | None = None
    relative: Relative | None = None

    def products(self) -> dict[str, Linear]:
        """The matrix products by name, in the order in which they run."""
        names = ("query", "key", "value", "output", "up", "down", "gate")
        return {name: linear for name in names if (linear := getattr(self, name)) is not None}


@dataclass(frozen=True)
class HeadLayer:
    """A linear layer, its activation, and a norm of what that gives, with its epsilon, or None."""

    linear: Linear
    activation: str
    norm: Norm | None = None
    epsilon: float = 0.0


@dataclass(frozen=True)
class EncoderWeights:
    """The weights of a whole model. `words`, `positions`, `types`: tables, one row an id; None where there are none.

    The token at place i has the position id i + `position_offset`. Where `padding_id` is given, tokens of that id are
    not counted and have the position id `padding_id`, as RoBERTa does it. `projection`: from the embeddings' width to
    the layers', where they differ. `activation`: of the feed-forward, one of `ACTIVATIONS`. `final_norm`: ModernBERT's.
    `pooling`: whether the head reads the `first` row or the `mean` of all. `length`: tokens of the longest pair that
    was asked for, where there is no table of positions. `relative_rows`: DeBERTa's relative position of the distance
    from token j to token i, i - j, Shape (2 * longest - 1,), from 1 - longest on. `columns`: of
    the layers' width, those that norms count; the others hold zeros. None: all.
    """

    words: FloatArray
    embedding_norm: Norm
    heads: int
    layers: tuple[Layer, ...]
    activation: str
    epsilon: float
    positions: FloatArray | None = None
    types: FloatArray | None = None
    position_offset: int = 0
    padding_id: int | None = None
    projection: Linear | None = None
    final_norm: Norm | None = None
    pooling: str = "first"
    length: int | None = None
    head: tuple[HeadLayer, ...] = ()
    relative_rows: npt.NDArray[np.int32] | None = None
    columns: int | None = None

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
        """Tokens of the longest pair that can be scored."""
        return (self.length or 0) if self.positions is None else len(self.positions) - self.position_offset

    @property
    def modern(self) -> list[Modern]:
        """What is ModernBERT's own in each layer; empty for a BERT."""
        return [layer.modern for layer in self.layers if layer.modern is not None]

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

    def logits(self, input_ids: Int32Array, token_type_ids: Int32Array | None = None) -> FloatArray:
        """The formula, written to be read, in fp32. input_ids: Shape (n, length), all of one length.

        Returns Shape (n, labels).
        """
        embedded = self.words[input_ids]
        if self.positions is not None:
            embedded = embedded + self.positions[self.position_ids(input_ids)]
        if self.types is not None:
            embedded = embedded + self.types[np.zeros_like(input_ids) if token_type_ids is None else token_type_ids]
        rows = self._norm(torch.from_numpy(embedded), self.embedding_norm)
        if self.projection is not None:
            rows = _product(self.projection, rows)
        for layer in self.layers:
            rows = (self._bert_layer if layer.modern is None else self._modern_layer)(layer, rows)
        if self.final_norm is not None:
            rows = self._norm(rows, self.final_norm)
        pooled = rows[:, 0] if self.pooling == "first" else rows.mean(dim=1)
        for each in self.head:
            pooled = ACTIVATIONS[each.activation](_product(each.linear, pooled))
            if each.norm is not None:
                pooled = _norm(pooled, each.norm, each.epsilon)
        logits: FloatArray = pooled.numpy()
        return logits

    def _bert_layer(self, layer: Layer, rows: torch.Tensor) -> torch.Tensor:
        context = self._attention(layer, rows)
        rows = self._norm(rows + _product(layer.output, context), layer.attention_norm)
        inner = ACTIVATIONS[self.activation](_product(layer.up, rows))
        return self._norm(rows + _product(layer.down, inner), layer.output_norm)

    def _modern_layer(self, layer: Layer, rows: torch.Tensor) -> torch.Tensor:
        context = self._attention(layer, self._norm(rows, layer.attention_norm))
        rows = rows + _product(layer.output, context)
        normed = self._norm(rows, layer.output_norm)
        inner = ACTIVATIONS[self.activation](_product(layer.up, normed))
        inner = inner if layer.gate is None else inner * _product(layer.gate, normed)
        return rows + _product(layer.down, inner)

    def _attention(self, layer: Layer, rows: torch.Tensor) -> torch.Tensor:
        query, key, value = (self._heads(_product(each, rows)) for each in (layer.query, layer.key, layer.value))
        mask = None
        if layer.modern is not None:
            query, key = (turned(each, layer.modern.frequencies) for each in (query, key))
            mask = seen(rows.shape[1], layer.modern.window)
        elif layer.relative is not None:
            mask = self._relative_scores(layer.relative, query, key)
        context = functional.scaled_dot_product_attention(query, key, value, mask)
        return context.transpose(1, 2).flatten(2)

    def _relative_scores(self, relative: Relative, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """What relative positions add to the scores of all heads, Shape (n, heads, length, length)."""
        length, positions = query.shape[2], torch.from_numpy(self.relative_positions(query.shape[2]))
        keys, queries = (self._heads(torch.from_numpy(each)[None]) for each in (relative.key, relative.query))
        shape = (*query.shape[:2], length, length)
        of_queries = (query @ keys.mT).gather(-1, positions.expand(shape))
        of_keys = (key @ queries.mT).gather(-1, positions.mT.expand(shape)).mT
        scores: torch.Tensor = (of_queries + of_keys) / query.shape[-1] ** 0.5
        return scores

    def relative_positions(self, length: int) -> npt.NDArray[np.int64]:
        """The relative position of token j to token i, Shape (length, length)."""
        if self.relative_rows is None:
            raise ValueError("the encoder has no relative positions")
        places = np.arange(length)
        found: npt.NDArray[np.int64] = self.relative_rows[places[:, None] - places + self.longest - 1].astype(np.int64)
        return found

    def _norm(self, rows: torch.Tensor, norm: Norm | None) -> torch.Tensor:
        if norm is None:
            return rows
        if self.columns is None or rows.shape[-1] != self.hidden:
            return _norm(rows, norm, self.epsilon)
        counted = Norm(norm.weight[: self.columns], norm.bias[: self.columns])
        normed = _norm(rows[..., : self.columns], counted, self.epsilon)
        return functional.pad(normed, (0, self.hidden - self.columns))

    def _heads(self, rows: torch.Tensor) -> torch.Tensor:
        """Shape (n, length, hidden) to (n, heads, length, columns)."""
        return rows.reshape(*rows.shape[:2], self.heads, -1).transpose(1, 2)


def _product(linear: Linear, rows: torch.Tensor) -> torch.Tensor:
    return functional.linear(rows, torch.from_numpy(linear.weight), torch.from_numpy(linear.bias))


def _norm(rows: torch.Tensor, norm: Norm, epsilon: float) -> torch.Tensor:
    weight, bias = torch.from_numpy(norm.weight), torch.from_numpy(norm.bias)
    return functional.layer_norm(rows, weight.shape, weight, bias, epsilon)


def turned(heads: torch.Tensor, frequencies: FloatArray) -> torch.Tensor:
    """Queries or keys by the angles of their positions. heads: Shape (n, heads, length, columns)."""
    cosines, sines = (torch.from_numpy(each) for each in angles(heads.shape[2], frequencies))
    left, right = heads.chunk(2, dim=-1)
    return torch.cat([left * cosines - right * sines, right * cosines + left * sines], dim=-1)


def angles(length: int, frequencies: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cosines and sines of the angles of the first positions, each of Shape (length, frequencies)."""
    found = np.arange(length, dtype=np.float32)[:, None] * frequencies
    return np.cos(found), np.sin(found)


def seen(length: int, window: int) -> torch.Tensor | None:
    """Which tokens see which, Shape (length, length); None where all see all."""
    if not window:
        return None
    places = torch.arange(length)
    return (places[:, None] - places).abs() <= window // 2
