"""An encoder of widths that no vector divides, such as TinyBERT's 312 columns in heads of 26, filled up with zeros.

The logits stay the same: the added columns hold zeros throughout, norms do not count them (`EncoderWeights.columns`),
and queries make up for the kernels' division by the square root of a wider head.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from pairscore.export.encoder.formula import EncoderWeights, HeadLayer, Layer, Linear, Norm, Relative, Rows
from pairscore.export.quantization.calibration import Seen
from pairscore.runtime.types import FloatArray

# Where columns are added to the feed-forward at all, they make whole groups of so many.
_GROUP = 64
# Where the columns of a tensor stand among the wider ones, and how many those are.
_Places = tuple[npt.NDArray[np.int64], int]


def widened(
    encoder: EncoderWeights, seen: Mapping[Rows, Seen], lanes: int
) -> tuple[EncoderWeights, Mapping[Rows, Seen]]:
    """The encoder with heads and feed-forward of a multiple of `lanes` columns, and what its products read."""
    # Rotary positions turn the halves of a head against each other: each half is filled up by itself.
    halves = 2 if encoder.modern else 1
    size, part = encoder.hidden // encoder.heads, encoder.hidden // encoder.heads // halves
    if part % lanes == 0 and encoder.intermediate % lanes == 0:
        return encoder, seen
    wide = -(-part // lanes) * lanes * halves
    within = np.concatenate([half * (wide // halves) + np.arange(part) for half in range(halves)])
    heads: _Places = (np.arange(encoder.heads)[:, None] * wide + within).reshape(-1), encoder.heads * wide
    hidden: _Places = np.arange(encoder.hidden), heads[1]
    inner: _Places = np.arange(encoder.intermediate), -(-encoder.intermediate // _GROUP) * _GROUP
    # Of each product's outputs and inputs.
    places = {
        **dict.fromkeys(("query", "key", "value"), (heads, hidden)),
        "output": (hidden, heads),
        **dict.fromkeys(("up", "gate"), (inner, hidden)),
        "down": (hidden, inner),
    }
    found: dict[Rows, Seen] = {}
    layers = []
    for layer in encoder.layers:
        products = {name: _linear(linear, *places[name]) for name, linear in layer.products().items()}
        for name, linear in products.items():
            read, into = seen[linear.input], places[name][1]
            found[linear.input] = Seen(_filled(read.hessian, into, into), _filled(read.total, into), read.rows)
        layers.append(_layer(layer, products, heads, hidden, np.float32((wide / size) ** 0.5)))
    first, *others = encoder.head
    tables: dict[str, Any] = {}
    if encoder.projection is None:
        tables = {
            name: _filled(table, None, hidden)
            for name in ("words", "positions", "types")
            if (table := getattr(encoder, name)) is not None
        }
        tables["embedding_norm"] = _norm(encoder.embedding_norm, hidden)
    return replace(
        encoder,
        **tables,
        projection=encoder.projection and _linear(encoder.projection, hidden, None),
        layers=tuple(layers),
        final_norm=_norm(encoder.final_norm, hidden),
        head=(HeadLayer(_linear(first.linear, None, hidden), first.activation, first.norm, first.epsilon), *others),
        columns=encoder.hidden if heads[1] > encoder.hidden else None,
    ), found


def _layer(layer: Layer, products: dict[str, Any], heads: _Places, hidden: _Places, factor: np.float32) -> Layer:
    query, modern, relative = products["query"], layer.modern, layer.relative
    products["query"] = replace(query, weight=query.weight * factor, bias=query.bias * factor)
    if modern is not None:
        pairs = len(modern.frequencies)
        frequencies = np.pad(modern.frequencies, (0, pairs * heads[1] // len(heads[0]) - pairs))
        modern = replace(modern, frequencies=frequencies)
    if relative is not None:
        relative = Relative(_filled(relative.key, None, heads), _filled(relative.query, None, heads) * factor)
    norms = {name: _norm(getattr(layer, name), hidden) for name in ("attention_norm", "output_norm")}
    return replace(layer, **products, **norms, modern=modern, relative=relative)


def _linear(linear: Linear, outputs: _Places | None, inputs: _Places | None) -> Linear:
    bias = linear.bias if outputs is None else _filled(linear.bias, outputs)
    return Linear(linear.input, _filled(linear.weight, outputs, inputs), bias)


def _norm(norm: Norm | None, places: _Places) -> Any:
    return norm and Norm(_filled(norm.weight, places), _filled(norm.bias, places))


def _filled(values: FloatArray, *places: _Places | None) -> FloatArray:
    """`values` at their places along each axis, and zeros elsewhere; None leaves an axis as it is."""
    axes = [where or (np.arange(size), size) for where, size in zip_longest(places, values.shape)]
    wide = np.zeros([size for _, size in axes], np.float32)
    wide[np.ix_(*(where for where, _ in axes))] = values
    return wide
