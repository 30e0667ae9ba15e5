"""Each operation of the encoder alone, on numpy arrays. `reference` has the same functions in plain numpy.

`isa` names the instruction set; None takes the best one. Columns of activations are a multiple of 16.
Raises ValueError where an array has another element type or shape than is documented.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscore_kernels import _core
from pairscore_kernels.encoder import check_isa
from pairscore_kernels.plan import LANES, MOST_INPUTS, ROTATIONS

__all__ = [
    "Quantized",
    "RelativePositions",
    "activate",
    "attention",
    "dense",
    "embed",
    "exponential",
    "layer_norm",
    "linear",
    "mean",
    "quantize_gated",
    "quantize_rows",
    "rotate",
    "state_attention",
]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Quantized:
    """Activations that stand for scales * (values - zero_points), with a scale and a zero point for each row and
    group.
    """

    values: NDArray[np.uint8]
    scales: Floats
    zero_points: NDArray[np.int32]


@dataclass(frozen=True)
class RelativePositions:
    """What the distance between two tokens adds to the scores of one head, as in DeBERTa (arXiv 2006.03654).

    A query is also multiplied by a key of its distance to the other token, and a key by a query of that distance; a
    bias is added. keys and queries: int8 (positions, head_size), which stand for scale * value; key_scales,
    query_scales and bias: (positions,), the last two times 1 / sqrt(head_size) already. rows: int32 (2 * length - 1,),
    the position of the distance from token j to token i, i - j, from 1 - length on.
    """

    keys: NDArray[np.int8]
    key_scales: Floats
    queries: NDArray[np.int8]
    query_scales: Floats
    bias: Floats
    rows: NDArray[np.int32]


def quantize_rows(
    x: Floats, smooth: Floats | None = None, group_size: int = 0, isa: str | None = None, *, rotation: int = 0
) -> Quantized:
    """Quantize x * smooth, rotated. x: (rows, columns); smooth: (columns,).

    rotation: 0 for none, or the order n of a Hadamard matrix, of which 16 n divides the columns of a group: column
    block * 16 n + b * 16 + lane is turned over b.
    """
    rows, columns = _shape(x, "x")
    group_size = _group_size(group_size, columns)
    _check_rotation(rotation, group_size)
    quantized = _unfilled(rows, columns, group_size)
    _core.quantize(
        check_isa(isa),
        _floats(x, "x", rows, columns),
        None if smooth is None else _floats(smooth, "smooth", columns),
        group_size,
        rotation,
        quantized.values,
        quantized.scales,
        quantized.zero_points,
    )
    return quantized


def quantize_gated(
    x: Floats,
    activation: str,
    smooth: Floats | None = None,
    group_size: int = 0,
    isa: str | None = None,
    *,
    rotation: int = 0,
) -> Quantized:
    """Quantize activation(first half of x) * second half * smooth, rotated.

    x: (rows, 2 * columns); smooth: (columns,).
    """
    rows, columns = _shape(x, "x")
    columns //= 2
    group_size = _group_size(group_size, columns)
    _check_rotation(rotation, group_size)
    quantized = _unfilled(rows, columns, group_size)
    _core.quantize_gated(
        check_isa(isa),
        activation,
        _floats(x, "x", rows, 2 * columns),
        None if smooth is None else _floats(smooth, "smooth", columns),
        group_size,
        rotation,
        quantized.values,
        quantized.scales,
        quantized.zero_points,
    )
    return quantized


def linear(
    x: Floats,
    weight: NDArray[np.int8],
    scale: Floats,
    bias: Floats,
    *,
    smooth: Floats | None = None,
    group_size: int = 0,
    rotation: int = 0,
    activation: str = "none",
    residual: Floats | None = None,
    out: Floats | None = None,
    isa: str | None = None,
) -> Floats:
    """activation(quantized(x * smooth, rotated) @ (weight * scale).T + bias) + residual.

    x: (rows, inputs); weight: int8 (outputs, inputs); scale: (outputs,), or (outputs, inputs / group_size);
    bias: (outputs,); smooth: (inputs,); residual and result: (rows, outputs). Outputs are a multiple of 16. The result
    is written to `out` where that is given, else to a new array.
    """
    rows, inputs = _shape(x, "x")
    size = _group_size(group_size, inputs)
    _check_rotation(rotation, size)
    if not isinstance(weight, np.ndarray) or weight.dtype != np.int8 or weight.ndim != 2 or weight.shape[1] != inputs:
        raise ValueError(f"weight must be int8 (outputs, {inputs})")
    outputs = weight.shape[0]
    _multiple(outputs, "outputs")
    if not group_size and isinstance(scale, np.ndarray) and scale.ndim == 1:
        scale = scale[:, None]
    if out is None:
        out = np.empty((rows, outputs), np.float32)
    elif out.shape != (rows, outputs) or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(f"out must be contiguous float32 ({rows}, {outputs})")
    _core.linear(
        check_isa(isa),
        _floats(x, "x", rows, inputs),
        np.ascontiguousarray(weight),
        _floats(scale, "scale", outputs, inputs // size),
        _floats(bias, "bias", outputs),
        None if smooth is None else _floats(smooth, "smooth", inputs),
        size,
        rotation,
        activation,
        None if residual is None else _floats(residual, "residual", rows, outputs),
        out,
    )
    return out


def dense(x: Floats, weight: Floats, bias: Floats, activation: str = "none", isa: str | None = None) -> Floats:
    """activation(x @ weight.T + bias) in float. x: (rows, inputs); weight: (outputs, inputs); bias: (outputs,)."""
    rows, inputs = _shape(x, "x")
    outputs, _ = _shape(weight, "weight")
    out = np.empty((rows, outputs), np.float32)
    _core.dense(
        check_isa(isa),
        _floats(x, "x", rows, inputs),
        _floats(weight, "weight", outputs, inputs),
        _floats(bias, "bias", outputs),
        activation,
        out,
    )
    return out


def rotate(x: Floats, cosines: Floats, sines: Floats, isa: str | None = None) -> Floats:
    """Rotary positions: in each head, columns d and head_size / 2 + d of row i turn by the angle of position i.

    x: (rows, heads * head_size); cosines and sines: (rows, head_size / 2), which is a multiple of 16.
    """
    rows, columns = _shape(x, "x")
    _, half = _shape(cosines, "cosines")
    _multiple(half, "columns of cosines")
    if not columns or columns % (2 * half):
        raise ValueError(f"x has {columns} columns, which are no whole heads of {2 * half}")
    out = _floats(x, "x", rows, columns).copy()
    _core.rotate(
        check_isa(isa),
        _floats(cosines, "cosines", rows, half),
        _floats(sines, "sines", rows, half),
        columns // (2 * half),
        out,
    )
    return out


def mean(x: Floats, isa: str | None = None) -> Floats:
    """The mean of the rows. x: (rows, columns); result: (columns,)."""
    rows, columns = _shape(x, "x")
    _multiple(columns, "columns")
    if not rows:
        raise ValueError("x has no rows")
    out = np.empty(columns, np.float32)
    _core.mean(check_isa(isa), _floats(x, "x", rows, columns), out)
    return out


def layer_norm(x: Floats, weight: Floats, bias: Floats, epsilon: float, isa: str | None = None) -> Floats:
    """Layer norm of each row. x: (rows, columns); weight and bias: (columns,)."""
    rows, columns = _shape(x, "x")
    _multiple(columns, "columns")
    out = np.empty((rows, columns), np.float32)
    _core.layer_norm(
        check_isa(isa),
        _floats(x, "x", rows, columns),
        _floats(weight, "weight", columns),
        _floats(bias, "bias", columns),
        epsilon,
        out,
    )
    return out


def attention(
    queries: Floats,
    keys: Floats,
    values: Floats,
    *,
    window: int = 0,
    positions: RelativePositions | None = None,
    isa: str | None = None,
) -> Floats:
    """softmax(queries @ keys.T) @ values of one pair and head.

    queries: (rows, head_size), of the first tokens or all, times 1 / sqrt(head_size) already; keys and values:
    (length, head_size). Where `window` is not 0, a token sees only those at most window // 2 away, as in ModernBERT;
    `positions` have no window.
    """
    rows, size = _shape(queries, "queries")
    length, _ = _shape(keys, "keys")
    _multiple(size, "head_size")
    if not length:
        raise ValueError("keys has no rows")
    if rows > length:
        raise ValueError(f"queries has {rows} rows, and keys {length}")
    if window < 0:
        raise ValueError(f"window is {window}, less than 0")
    out = np.empty((rows, size), np.float32)
    content = (
        _floats(queries, "queries", rows, size),
        _floats(keys, "keys", length, size),
        _floats(values, "values", length, size),
    )
    if positions is None:
        _core.attention(check_isa(isa), *content, window, out)
        return out
    if window:
        raise ValueError(f"window is {window}, and relative positions have none")
    arrays = [*content, *_positions(positions, length, size), out]
    _core.relative_attention(check_isa(isa), *arrays)
    return out


def state_attention(asking: Floats, states: Floats, isa: str | None = None) -> Floats:
    """softmax(asking @ states.T) @ states of one pair, in float.

    asking: (heads, columns); states: (length, columns); result: (heads, columns).
    """
    heads, size = _shape(asking, "asking")
    length, _ = _shape(states, "states")
    _multiple(size, "columns")
    for name, count in (("asking", heads), ("states", length)):
        if not count:
            raise ValueError(f"{name} has no rows")
    out = np.empty((heads, size), np.float32)
    _core.state_attention(
        check_isa(isa), _floats(asking, "asking", heads, size), _floats(states, "states", length, size), out
    )
    return out


def _positions(positions: RelativePositions, length: int, size: int) -> list[NDArray[Any]]:
    """The arrays, in the order of their names."""
    tables = {"keys": positions.keys, "queries": positions.queries}
    for name, array in tables.items():
        if not isinstance(array, np.ndarray) or array.dtype != np.int8 or array.ndim != 2 or array.shape[1] != size:
            raise ValueError(f"positions.{name} must be int8 (positions, {size})")
    count = len(positions.keys)
    if len(positions.queries) != count:
        raise ValueError(f"positions.queries has {len(positions.queries)} rows, and positions.keys {count}")
    scales = [
        _floats(getattr(positions, name), f"positions.{name}", count) for name in ("key_scales", "query_scales", "bias")
    ]
    rows = positions.rows
    if not isinstance(rows, np.ndarray) or rows.dtype != np.int32 or rows.shape != (2 * length - 1,):
        raise ValueError(f"positions.rows must be int32 ({2 * length - 1},)")
    if not 0 <= rows.min() <= rows.max() < count:
        raise ValueError(f"positions.rows holds a value outside of 0 to {count - 1}")
    return [
        *(np.ascontiguousarray(array) for array in (positions.keys, positions.queries)),
        *scales,
        np.ascontiguousarray(rows),
    ]


def embed(
    ids: NDArray[np.int32],
    type_ids: NDArray[np.int32],
    words: Floats,
    types: Floats | None,
    positions: Floats | None,
    *,
    isa: str | None = None,
) -> Floats:
    """(word + type) + position of each token of one pair; result: (length, size).

    ids and type_ids: int32 (length,); words: (vocabulary, size); types: (token types, size) or None;
    positions: (at least length, size), of which row i is token i's, or None.
    """
    vocabulary, size = _shape(words, "words")
    _multiple(size, "size")
    token_types = vocabulary if types is None else _shape(types, "types")[0]
    for name, array, rows in (("ids", ids, vocabulary), ("type_ids", type_ids, token_types)):
        if not isinstance(array, np.ndarray) or array.dtype != np.int32 or array.shape != (len(ids),):
            raise ValueError(f"{name} must be int32 ({len(ids)},)")
        if array.size and not 0 <= array.min() <= array.max() < rows:
            raise ValueError(f"{name} holds a value outside of 0 to {rows - 1}")
    if positions is not None and _shape(positions, "positions")[0] < len(ids):
        raise ValueError(f"positions has fewer rows than {len(ids)}")
    out = np.empty((len(ids), size), np.float32)
    _core.embed(
        check_isa(isa),
        np.ascontiguousarray(ids),
        np.ascontiguousarray(type_ids),
        _floats(words, "words", vocabulary, size),
        None if types is None else _floats(types, "types", token_types, size),
        None if positions is None else _floats(positions, "positions", len(positions), size),
        out,
    )
    return out


def activate(name: str, x: Floats, isa: str | None = None) -> Floats:
    """The activation `name` (none, relu, gelu, gelu_tanh, tanh) of each element. x: (count,)."""
    out = np.empty(x.shape, np.float32)
    _core.activate(check_isa(isa), name, _floats(x, "x", x.size), out)
    return out


def exponential(x: Floats, isa: str | None = None) -> Floats:
    """Exponential of each element, for -87 <= x <= 88; clamped beyond. x: (count,)."""
    out = np.empty(x.shape, np.float32)
    _core.exponential(check_isa(isa), _floats(x, "x", x.size), out)
    return out


def _shape(array: Any, name: str) -> tuple[int, int]:
    if not isinstance(array, np.ndarray) or array.ndim != 2:
        raise ValueError(f"{name} must be an array of two dimensions")
    return array.shape[0], array.shape[1]


def _floats(array: Any, name: str, *shape: int) -> Floats:
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.shape != shape:
        raise ValueError(f"{name} must be float32 {shape}")
    return np.ascontiguousarray(array)


def _multiple(size: int, name: str) -> None:
    if size % LANES or not size:
        raise ValueError(f"{name} is {size}, not a multiple of {LANES}")


def _group_size(group_size: int, columns: int) -> int:
    _multiple(columns, "columns")
    if columns > MOST_INPUTS:
        raise ValueError(f"columns are {columns}, more than {MOST_INPUTS}")
    size = group_size or columns
    if size < 0 or size % LANES or columns % size:
        raise ValueError(f"group_size is {group_size}, which must be a multiple of {LANES} that divides {columns}")
    return size


def _check_rotation(rotation: int, group_size: int) -> None:
    if rotation and (rotation not in ROTATIONS or group_size % (rotation * LANES)):
        raise ValueError(
            f"rotation is {rotation}, which must be 0 or one of {', '.join(map(str, ROTATIONS))}, "
            f"in blocks of 16 times that which divide {group_size} columns"
        )


def _unfilled(rows: int, columns: int, group_size: int) -> Quantized:
    groups = columns // group_size
    return Quantized(
        np.empty((rows, columns), np.uint8), np.empty((rows, groups), np.float32), np.empty((rows, groups), np.int32)
    )
