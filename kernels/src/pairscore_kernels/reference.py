"""The arithmetic of the kernels in plain numpy: slow, short, and what the tests compare them with.

Integers, scales and zero points are equal; floats differ where numpy adds in another order or rounds a product that the
kernels fuse.
"""

from collections.abc import Mapping, Sequence
from math import erf, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscore_kernels.operations import Floats, Quantized, RelativePositions
from pairscore_kernels.plan import Plan

__all__ = [
    "activate",
    "attention",
    "dense",
    "dequantized",
    "embed",
    "encode",
    "layer_norm",
    "linear",
    "mean",
    "quantize_gated",
    "quantize_rows",
    "rotate",
    "rotated",
    "state_attention",
]


def rotated(x: Floats, order: int) -> Floats:
    """Rows turned by a Hadamard matrix: column block * 16 * order + b * 16 + lane over b, by a fast transform."""
    if not order:
        return x
    turned = x.reshape(len(x), -1, order, 16)
    half = 1
    while half < order:
        pairs = turned.reshape(len(x), -1, order // (2 * half), 2, half, 16)
        left, right = pairs[:, :, :, 0], pairs[:, :, :, 1]
        turned = np.stack([left + right, left - right], axis=3)
        half *= 2
    return turned.reshape(x.shape)


def quantize_rows(x: Floats, smooth: Floats | None = None, group_size: int = 0, *, rotation: int = 0) -> Quantized:
    """Each group of each row by its own range, which always holds 0: scale * (value - zero point) is close to x."""
    rows, columns = x.shape
    size = group_size or columns
    prepared = rotated(x if smooth is None else x * smooth, rotation)
    grouped = prepared.reshape(rows, columns // size, size)
    low = np.minimum(grouped.min(axis=2), np.float32(0))
    high = np.maximum(grouped.max(axis=2), np.float32(0))
    scales = (high - low) / np.float32(255)
    scales[scales == 0] = 1
    inverse = np.float32(1) / scales
    zero_points = np.clip(np.rint(-low * inverse), 0, 255).astype(np.int32)
    # A fused multiply-add rounds once: in double precision the product is exact.
    steps = grouped.astype(np.float64) * inverse[:, :, None] + zero_points[:, :, None]
    values = np.clip(np.rint(steps.astype(np.float32)), 0, 255)
    return Quantized(values.astype(np.uint8).reshape(rows, columns), scales, zero_points)


def quantize_gated(
    x: Floats, activation: str, smooth: Floats | None = None, group_size: int = 0, *, rotation: int = 0
) -> Quantized:
    """Rows of a gated activation in 8-bit integers, as `quantize_rows` gives them."""
    up, gate = np.hsplit(x, 2)
    return quantize_rows(activate(activation, up) * gate, smooth, group_size, rotation=rotation)


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
) -> Floats:
    """Exact integer products; scaled and added in float, group by group."""
    rows, inputs = x.shape
    outputs = weight.shape[0]
    size = group_size or inputs
    quantized = quantize_rows(x, smooth, size, rotation=rotation)
    scales = scale.reshape(outputs, -1)
    y = np.tile(bias, (rows, 1))
    for group, first in enumerate(range(0, inputs, size)):
        values = quantized.values[:, first : first + size].astype(np.int32)
        weights = weight[:, first : first + size].astype(np.int32)
        dots = values @ weights.T - quantized.zero_points[:, group, None] * weights.sum(axis=1)
        y = y + dots.astype(np.float32) * (quantized.scales[:, group, None] * scales[:, group])
    y = activate(activation, y)
    if residual is not None:
        y = y + residual
    return y


def dense(x: Floats, weight: Floats, bias: Floats, activation: str = "none") -> Floats:
    """The product x @ weight.T plus the bias, then the activation. Shape (rows, outputs)."""
    return activate(activation, x @ weight.T + bias)


def rotate(x: Floats, cosines: Floats, sines: Floats) -> Floats:
    """Rotary positions: turn the two halves of each head against each other."""
    rows, half = cosines.shape
    halves = x.reshape(rows, -1, 2, half)
    turned = np.empty_like(halves)
    turned[:, :, 0] = halves[:, :, 0] * cosines[:, None] - halves[:, :, 1] * sines[:, None]
    turned[:, :, 1] = halves[:, :, 1] * cosines[:, None] + halves[:, :, 0] * sines[:, None]
    return turned.reshape(x.shape)


def mean(x: Floats) -> Floats:
    """The mean of the rows. Shape (columns,)."""
    average: Floats = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    return average


def layer_norm(x: Floats, weight: Floats, bias: Floats, epsilon: float) -> Floats:
    """Rows with mean 0 and variance 1, then weight and bias."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    factor = np.float32(1) / np.sqrt(variance + np.float32(epsilon))
    normed: Floats = centred * factor * weight + bias
    return normed


def attention(
    queries: Floats, keys: Floats, values: Floats, *, window: int = 0, positions: RelativePositions | None = None
) -> Floats:
    """Queries and keys less their mean are rounded to -127 to 127, a scale a row each; exponentials to 0 to 4095, and
    values to -1023 to 1023, a scale a column. Integers are multiplied exactly.
    """
    mean = np.add.accumulate(keys)[-1] / np.float32(len(keys))  # added in order, so that rounding is the kernels'
    asking, query_scales = _signed(queries)
    answering, key_scales = _signed(keys - mean)
    scores = (asking @ answering.T).astype(np.float32) * key_scales * query_scales[:, None]
    distance = np.arange(len(queries))[:, None] - np.arange(len(keys))
    if window:
        scores[np.abs(distance) > window // 2] = -np.inf
    if positions is not None:
        position = positions.rows[distance + len(keys) - 1]
        of_keys = (asking @ positions.keys.T.astype(np.int32)) * positions.key_scales * query_scales[:, None]
        scores += np.take_along_axis(of_keys.astype(np.float32), position, axis=1)
        # The mean of the keys as two rows of 8 bits: the second holds what the first leaves.
        coarse, step = _signed(mean[None])
        fine, fine_step = _signed(mean[None] - coarse.astype(np.float32) * step[:, None])
        rows = np.concatenate([answering, coarse, fine]) @ positions.queries.T.astype(np.int32)
        of_queries = rows * np.concatenate([key_scales, step, fine_step])[:, None] * positions.query_scales
        of_queries = of_queries[: len(keys)] + of_queries[len(keys) :].sum(axis=0) + positions.bias
        scores += np.take_along_axis(of_queries.astype(np.float32), position.T, axis=1).T
    weights = np.rint(4095 * np.exp(scores - scores.max(axis=1, keepdims=True)))
    value_scales = np.abs(values).max(axis=0) / np.float32(1023)
    value_scales[value_scales == 0] = 1
    wholes = np.rint(values * (np.float32(1) / value_scales))
    context: Floats = (weights @ wholes) * (value_scales / weights.sum(axis=1, keepdims=True))
    return context.astype(np.float32)


def state_attention(asking: Floats, states: Floats) -> Floats:
    """softmax(asking @ states.T) @ states in float. asking: (heads, columns); states: (length, columns)."""
    scores = asking @ states.T
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    context: Floats = (weights / weights.sum(axis=1, keepdims=True)) @ states
    return context


def dequantized(weight: NDArray[np.int8], scale: Floats, smooth: Floats | None, rotation: int) -> Floats:
    """An int8 layer's weights in float, for rows that are neither smoothed nor rotated. Shape (outputs, inputs)."""
    outputs, inputs = weight.shape
    scales = np.repeat(scale.reshape(outputs, -1), inputs // (scale.size // outputs), axis=1)
    turned = rotated(weight.astype(np.float32), rotation) * scales.astype(np.float64)
    return (turned if smooth is None else turned * smooth).astype(np.float32)


def _signed(x: Floats) -> tuple[NDArray[np.int32], Floats]:
    scales = np.abs(x).max(axis=1) / np.float32(127)
    scales[scales == 0] = 1
    return np.rint(x * (np.float32(1) / scales)[:, None]).astype(np.int32), scales


def embed(
    ids: NDArray[np.int32], type_ids: NDArray[np.int32], words: Floats, types: Floats | None, positions: Floats | None
) -> Floats:
    """The sum of word, type and position embeddings. Shape (tokens, columns)."""
    x: Floats = words[ids] if types is None else words[ids] + types[type_ids]
    return x if positions is None else x + positions[: len(ids)]


def activate(name: str, x: Floats) -> Floats:
    """In double precision, then rounded: the truth for the kernels' polynomials."""
    wide = x.astype(np.float64)
    if name == "none":
        return x
    if name == "relu":
        positive: Floats = np.maximum(x, np.float32(0))
        return positive
    if name == "tanh":
        return _rounded(np.tanh(wide))
    if name == "gelu":
        return _rounded(wide * 0.5 * (1 + np.vectorize(erf, otypes=[float])(wide / sqrt(2))))
    if name == "gelu_tanh":
        return _rounded(wide * 0.5 * (1 + np.tanh(sqrt(2 / np.pi) * (wide + 0.044715 * wide**3))))
    raise ValueError(f"activation is {name}")


def _rounded(x: NDArray[np.float64]) -> Floats:
    return x.astype(np.float32)


def encode(
    plan: Plan, tensors: Mapping[str, NDArray[Any]], input_ids: NDArray[np.int32], token_type_ids: NDArray[np.int32]
) -> Floats:
    """Logits of pairs of one length, like `Encoder.run`; here every row of the last layer is computed."""
    return np.stack([_encode(plan, tensors, *ids) for ids in zip(input_ids, token_type_ids, strict=True)])


def _encode(
    plan: Plan, tensors: Mapping[str, NDArray[Any]], ids: NDArray[np.int32], type_ids: NDArray[np.int32]
) -> Floats:
    def norm(name: str, x: Floats) -> Floats:
        counted = plan.columns if x.shape[-1] == plan.hidden else x.shape[-1]
        weight, bias = (tensors[f"{name}.{part}"][:counted] for part in ("weight", "bias"))
        normed = layer_norm(x[..., :counted], weight, bias, plan.epsilon)
        return np.pad(normed, [(0, 0)] * (x.ndim - 1) + [(0, x.shape[-1] - counted)])

    def product(name: str, x: Floats, smooth: str | None = None, **finish: Any) -> Floats:
        return linear(
            x,
            *(tensors[f"{name}.{part}"] for part in ("weight", "scale", "bias")),
            smooth=tensors.get(f"{smooth or name}.smooth"),
            group_size=plan.group_size_of(name.rpartition(".")[2]),
            rotation=plan.rotation_of(name.rpartition(".")[2]),
            **finish,
        )

    table = tensors.get("embeddings.positions")
    positions = None if table is None else table[_position_ids(plan, ids)]
    x = embed(ids, type_ids, tensors["embeddings.words"], tensors.get("embeddings.types"), positions)
    x = norm("embeddings.norm", x)
    if plan.embedding_size != plan.hidden:
        x = dense(x, tensors["embeddings.projection.weight"], tensors["embeddings.projection.bias"])
    size = plan.hidden // plan.heads

    def attend_to_states(layer: str, x: Floats, queries: Floats) -> Floats:
        """Keys and values in float: the kernels multiply queries and context by their weights instead."""
        smooth = tensors.get(f"{layer}.query.smooth")
        keys, values = (
            dequantized(tensors[f"{layer}.{name}.weight"], tensors[f"{layer}.{name}.scale"], smooth, plan.rotation)
            for name in ("key", "value")
        )
        by_head = [each.reshape(plan.heads, size, -1) for each in (queries.T, keys, values)]
        context = [state_attention(query.T @ key, x) @ value.T for query, key, value in zip(*by_head, strict=True)]
        return np.hstack(context) + np.asarray(tensors[f"{layer}.value.bias"], np.float32)

    def attend(layer: str, x: Floats, number: int) -> Floats:
        queries, keys, values = (product(f"{layer}.{name}", x, f"{layer}.query") for name in ("query", "key", "value"))
        if plan.modern:
            rotary = f"rotary.{plan.rotary[number]}"
            cosines, sines = (tensors[f"{rotary}.{name}"][: len(ids)] for name in ("cosines", "sines"))
            queries, keys = rotate(queries, cosines, sines), rotate(keys, cosines, sines)
        queries = queries * np.float32(1 / sqrt(size))
        if plan.architecture == "bert" and plan.pooling == "first" and number + 1 == plan.layers:
            return attend_to_states(layer, x, queries)
        heads = [each.reshape(len(ids), plan.heads, size).swapaxes(0, 1) for each in (queries, keys, values)]
        window = plan.windows[number] if plan.modern else 0
        relative = _relative(plan, tensors, layer, len(ids))
        return np.hstack(
            [attention(*head, window=window, positions=relative[i]) for i, head in enumerate(zip(*heads, strict=True))]
        )

    for i in range(plan.layers):
        layer = f"layers.{i}"
        if plan.modern:
            before = norm(f"{layer}.attention_norm", x) if i else x
            x = product(f"{layer}.output", attend(layer, before, i), residual=x)
            before = norm(f"{layer}.output_norm", x)
            inner = activate(plan.activation, product(f"{layer}.up", before))
            inner = inner * product(f"{layer}.gate", before, f"{layer}.up")
            x = product(f"{layer}.down", inner, residual=x)
        else:
            x = norm(f"{layer}.attention_norm", product(f"{layer}.output", attend(layer, x, i), residual=x))
            inner = product(f"{layer}.up", x, activation=plan.activation)
            x = norm(f"{layer}.output_norm", product(f"{layer}.down", inner, residual=x))
    if plan.modern:
        x = norm("final_norm", x)
    pooled = mean(x)[None] if plan.pooling == "mean" else x[:1]
    for head_layer in plan.head:
        name = head_layer.name
        pooled = dense(pooled, tensors[f"{name}.weight"], tensors[f"{name}.bias"], head_layer.activation)
        if head_layer.norm_epsilon is not None:
            weight, bias = (tensors[f"{name}.norm.{part}"] for part in ("weight", "bias"))
            pooled = layer_norm(pooled, weight, bias, head_layer.norm_epsilon)
    logits: Floats = pooled[0]
    return logits


def _relative(
    plan: Plan, tensors: Mapping[str, NDArray[Any]], layer: str, length: int
) -> Sequence[RelativePositions | None]:
    """Of each head; None where there are none."""
    if not plan.relative:
        return [None] * plan.heads
    keys, queries = (np.hsplit(tensors[f"{layer}.position_{name}.weight"], plan.heads) for name in ("key", "query"))
    scales = (tensors[f"{layer}.position_{name}"].T for name in ("key.scale", "query.scale", "bias"))
    rows = tensors["relative.rows"][plan.positions - length : plan.positions + length - 1]
    return [
        RelativePositions(key, key_scales, query, query_scales, bias, rows)
        for key, query, key_scales, query_scales, bias in zip(keys, queries, *scales, strict=True)
    ]


def _position_ids(plan: Plan, ids: NDArray[np.int32]) -> NDArray[np.int64]:
    """Padding tokens within a text share a position and are not counted, where the plan names their id."""
    rows: NDArray[np.int64] = np.arange(len(ids)) + plan.position_offset
    if plan.padding_id is not None:
        counted = ids != plan.padding_id
        rows = np.cumsum(counted) * counted + plan.padding_id
    return rows
