"""Each operation against plain numpy, and byte for byte against the portable code."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels.installed import every_fast_isa, every_isa, operations, reference

# Whose products AVX2 adds in 16 bits, where their weights are no larger than 128 together.
FOURS = ([0, 1, 4, 5], [2, 3, 6, 7])
LARGE = [(64, 64, 0, 0), (65, 64, 0, 0), (0, 64, 0, 65), (32, 32, 32, 32), (32, 32, 32, 33), (33, 32, 32, 32)]
ROTATIONS = (2, 4, 8, 16, 32, 64)
LARGE += [(127, 1, 0, 0), (127, 0, 0, 2), (127, 127, 127, 127), (127, -127, 1, -1), (127, -127, 2, 0), (-128, 0, 0, 0)]
ACTIVATIONS = ("none", "relu", "gelu", "gelu_tanh", "tanh")

seeds = st.integers(0, 2**32 - 1)
counts = st.integers(1, 40)
columns = st.sampled_from([*range(1, 13), 16, 32, 64]).map(lambda n: 16 * n)


def floats(seed: int, *shape: int, scale: float = 1.0) -> NDArray[np.float32]:
    """Normal values, a few of them much larger, as activations of encoders have them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * scale
    return np.where(rng.random(shape) < 0.02, 30 * x, x).astype(np.float32)


def group_sizes(columns: int) -> list[int]:
    return [0] + [size for size in range(16, columns, 16) if columns % size == 0]


def rotations(group_size: int) -> list[int]:
    return [0] + [order for order in ROTATIONS if group_size % (16 * order) == 0]


def ulps(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.max(np.abs(actual.astype(np.float64) - expected) / np.spacing(np.abs(expected).astype(np.float32))))


@every_isa
@settings(max_examples=60, deadline=None)
@given(seed=seeds, rows=counts, columns=columns, scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e6]), data=st.data())
def test_quantized_rows_equal_the_reference(isa: str, *, seed: int, rows: int, columns: int, scale: float, data: Any):
    x = floats(seed, rows, columns, scale=scale)
    if data.draw(st.booleans(), "positive"):
        x = np.abs(x)
    smooth = np.exp(floats(seed, columns, scale=0.1)) if data.draw(st.booleans(), "smooth") else None
    size = data.draw(st.sampled_from(group_sizes(columns)), "group size")
    order = data.draw(st.sampled_from(rotations(size or columns)), "rotation")
    actual = operations.quantize_rows(x, smooth, size, isa, rotation=order)
    expected = reference.quantize_rows(x, smooth, size, rotation=order)
    np.testing.assert_array_equal(actual.values, expected.values)
    np.testing.assert_array_equal(actual.scales, expected.scales)
    np.testing.assert_array_equal(actual.zero_points, expected.zero_points)


@every_isa
def test_a_row_quantized_by_hand(isa: str):
    """-1 to 4.1 in 255 steps of 0.02: zero is step 50, and halves go to the even neighbour."""
    x = np.zeros((1, 16), np.float32)
    x[0, :5] = [-1.0, 4.1, 0.02, 1.0, 0.0]
    quantized = operations.quantize_rows(x, isa=isa)
    assert quantized.zero_points.item() == 50
    assert quantized.scales.item() == pytest.approx(0.02)
    assert quantized.values[0, :6].tolist() == [0, 255, 51, 100, 50, 50]


@every_isa
def test_rows_of_zeros_and_of_one_sign_have_a_scale(isa: str):
    x = np.zeros((3, 32), np.float32)
    x[1] = 5
    x[2] = -5
    quantized = operations.quantize_rows(x, isa=isa)
    assert quantized.scales[0, 0] == 1
    assert quantized.zero_points[:, 0].tolist() == [0, 0, 255]
    assert quantized.values[:, 0].tolist() == [0, 255, 0]


@every_isa
@settings(max_examples=80, deadline=None)
@given(
    seed=seeds, rows=counts, inputs=columns, outputs=columns, activation=st.sampled_from(ACTIVATIONS), data=st.data()
)
def test_linear_equals_the_reference(
    isa: str, *, seed: int, rows: int, inputs: int, outputs: int, activation: str, data: Any
):
    size = data.draw(st.sampled_from(group_sizes(inputs)), "group size")
    arguments = linear_arguments(seed, rows, inputs, outputs, size) | {"group_size": size, "activation": activation}
    arguments["rotation"] = data.draw(st.sampled_from(rotations(size or inputs)), "rotation")
    if data.draw(st.booleans(), "narrow sums"):
        arguments["weight"] = narrow(arguments["weight"])
    if data.draw(st.booleans(), "smooth"):
        arguments["smooth"] = np.exp(floats(seed + 1, inputs, scale=0.1))
    if data.draw(st.booleans(), "residual"):
        arguments["residual"] = floats(seed + 2, rows, outputs)
    actual, expected = operations.linear(**arguments, isa=isa), reference.linear(**arguments)
    # A residual may take most of a value away, but not its rounding.
    np.testing.assert_allclose(actual, expected, rtol=3e-6, atol=3e-6 + 2e-7 * np.abs(expected).max())


@every_isa
@settings(max_examples=60, deadline=None)
@given(seed=seeds, rows=counts, columns=columns, activation=st.sampled_from(ACTIVATIONS), data=st.data())
def test_gated_rows_equal_the_reference(isa: str, *, seed: int, rows: int, columns: int, activation: str, data: Any):
    """A value on the edge between two steps may fall to either."""
    x = floats(seed, rows, 2 * columns)
    smooth = np.exp(floats(seed, columns, scale=0.1)) if data.draw(st.booleans(), "smooth") else None
    size = data.draw(st.sampled_from(group_sizes(columns)), "group size")
    actual = operations.quantize_gated(x, activation, smooth, size, isa)
    expected = reference.quantize_gated(x, activation, smooth, size)
    np.testing.assert_allclose(actual.scales, expected.scales, rtol=1e-4)
    assert np.abs(actual.zero_points - expected.zero_points).max() <= 1
    assert np.abs(actual.values.astype(int) - expected.values).max() <= 1 + (actual.scales != expected.scales).any()
    assert np.mean(actual.values != expected.values) <= 0.02 or (actual.zero_points != expected.zero_points).any()


@every_isa
@settings(max_examples=40, deadline=None)
@given(seed=seeds, rows=counts, heads=st.integers(1, 4), half=st.sampled_from([16, 32, 48]))
def test_rotary_positions_equal_the_reference(isa: str, *, seed: int, rows: int, heads: int, half: int):
    x, angles = floats(seed, rows, heads * 2 * half), floats(seed + 1, rows, half)
    arguments = (x, np.cos(angles), np.sin(angles))
    turned = operations.rotate(*arguments, isa)
    np.testing.assert_array_equal(turned, reference.rotate(*arguments))
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(x, axis=1), rtol=1e-5)


@every_isa
@settings(max_examples=40, deadline=None)
@given(seed=seeds, rows=counts, columns=columns)
def test_the_mean_equals_the_reference(isa: str, *, seed: int, rows: int, columns: int):
    x = floats(seed, rows, columns)
    np.testing.assert_allclose(operations.mean(x, isa), reference.mean(x), rtol=1e-5, atol=1e-5)


def narrow(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    """Weights of one sign among four inputs add up to at most 128, and often to just so much."""
    made = weight.astype(int)
    eights = made.reshape(len(made), -1, 8)
    for four in FOURS:
        for place, column in enumerate(four):
            before = eights[..., four[:place]]
            lowest, highest = -128 - np.minimum(before, 0).sum(axis=-1), 128 - np.maximum(before, 0).sum(axis=-1)
            eights[..., column] = np.clip(eights[..., column], lowest, highest)
    return made.astype(np.int8)


def linear_arguments(seed: int, rows: int, inputs: int, outputs: int, group_size: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    groups = (inputs // group_size,) if group_size else ()
    return {
        "x": floats(seed, rows, inputs),
        "weight": rng.integers(-127, 128, (outputs, inputs)).astype(np.int8),
        "scale": (rng.uniform(0.5, 1.5, (outputs, *groups)) / (80 * inputs)).astype(np.float32),
        "bias": floats(seed + 3, outputs, scale=0.1),
    }


@every_isa
def test_many_rows_are_those_of_one_at_a_time(isa: str):
    arguments = linear_arguments(0, 250, 32, 16) | {"residual": floats(1, 250, 16)}
    alone = [
        operations.linear(**arguments | {name: arguments[name][i : i + 1] for name in ("x", "residual")}, isa=isa)
        for i in range(250)
    ]
    out = np.empty((250, 16), np.float32)
    assert operations.linear(**arguments, out=out, isa=isa) is out
    assert out.tobytes() == np.concatenate(alone).tobytes()


@every_isa
@pytest.mark.parametrize("weights", LARGE, ids=str)
@pytest.mark.parametrize("four", FOURS, ids=str)
def test_products_of_the_largest_values_do_not_saturate(isa: str, four: list[int], weights: tuple[int, ...]):
    """255 times four weights, 384 times: an instruction that saturates at 16 bits would lose half of 127 + 127, and a
    sum that overflows them more than all of 32 + 32 + 32 + 33.
    """
    x = np.full((7, 3072), 1.0, np.float32)
    # One sign at a time: a limit that is wrong on one side must not hide behind the other.
    for sign in (1, -1):
        weight = np.zeros((16, 3072), np.int8)
        weight[0].reshape(-1, 8)[:, four] = np.clip(sign * np.array(weights), -128, 127)
        y = operations.linear(x, weight, np.ones(16, np.float32), np.zeros(16, np.float32), isa=isa)
        np.testing.assert_allclose(y, np.tile(weight.sum(axis=1, dtype=np.int32), (7, 1)), rtol=1e-6)


@every_isa
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_exact_to_a_millionth(isa: str, activation: str):
    x = np.concatenate(
        [np.linspace(-12, 12, 100_001), np.geomspace(1e-30, 1e30, 5_000), -np.geomspace(1e-30, 1e30, 5_000)]
    )
    x = x.astype(np.float32)
    with np.errstate(over="ignore"):
        expected = reference.activate(activation, x)
    np.testing.assert_allclose(operations.activate(activation, x, isa), expected, rtol=6e-7, atol=1e-6)


@every_isa
def test_exponential_is_exact_to_two_units_in_the_last_place(isa: str):
    x = np.concatenate([np.linspace(-87, 88, 400_001), -np.geomspace(1e-30, 87, 10_000)]).astype(np.float32)
    assert ulps(operations.exponential(x, isa), np.exp(x.astype(np.float64))) <= 2


@every_isa
@settings(max_examples=60, deadline=None)
@given(seed=seeds, rows=counts, columns=columns, scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_layer_norm_equals_the_reference(isa: str, *, seed: int, rows: int, columns: int, scale: float):
    x, weight, bias = floats(seed, rows, columns, scale=scale), floats(seed + 1, columns), floats(seed + 2, columns)
    actual = operations.layer_norm(x, weight, bias, 1e-12, isa)
    np.testing.assert_allclose(actual, reference.layer_norm(x, weight, bias, 1e-12), rtol=1e-5, atol=2e-5)


@every_isa
@settings(max_examples=120, deadline=None)
@given(
    seed=seeds,
    length=st.integers(1, 70),
    size=st.sampled_from([16, 32, 48, 64, 128]),
    window=st.sampled_from([0, 1, 2, 7, 16, 40, 200]),
    data=st.data(),
)
def test_attention_equals_the_reference(isa: str, *, seed: int, length: int, size: int, window: int, data: Any):
    queries = data.draw(st.integers(1, length), "queries")
    arguments = attention_arguments(seed, queries, length, size)
    actual = operations.attention(*arguments, window=window, isa=isa)
    np.testing.assert_allclose(
        actual, reference.attention(*arguments, window=window), rtol=5e-5, atol=one_step(arguments[2])
    )


@every_isa
@pytest.mark.parametrize("window", [0, 128])
def test_attention_of_512_tokens_equals_the_reference(isa: str, window: int):
    arguments = attention_arguments(0, 512, 512, 32)
    actual = operations.attention(*arguments, window=window, isa=isa)
    np.testing.assert_allclose(
        actual, reference.attention(*arguments, window=window), rtol=5e-5, atol=one_step(arguments[2])
    )


@every_isa
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_no_number_leaves_no_head_a_number(isa: str, value: float):
    asking, states = floats(0, 13, 32), floats(1, 20, 32)
    states[7, 3] = value
    assert not np.isfinite(operations.state_attention(asking, states, isa)).any()


def one_step(values: NDArray[np.float32]) -> float:
    """A value on the edge between two of 1023 steps may fall to either, and so may a weight, of 4095."""
    return float(np.abs(values).max() * (1 / 1023 + 2 / 4095))


def attention_arguments(seed: int, queries: int, length: int, size: int) -> list[NDArray[np.float32]]:
    return [floats(seed + i, n, size, scale=0.3) for i, n in enumerate((queries, length, length))]


@every_isa
@settings(max_examples=60, deadline=None)
@given(seed=seeds, heads=st.integers(1, 40), length=st.integers(1, 70), columns=columns)
def test_attention_to_states_equals_the_reference(isa: str, *, seed: int, heads: int, length: int, columns: int):
    asking, states = floats(seed, heads, columns, scale=0.1), floats(seed + 1, length, columns)
    actual = operations.state_attention(asking, states, isa)
    # Rounding of the scores, which the exponentials multiply by them.
    error = 1e-6 * (np.abs(asking) @ np.abs(states.T)).max()
    np.testing.assert_allclose(actual, reference.state_attention(asking, states), atol=error * np.abs(states).max())


@every_isa
@settings(max_examples=60, deadline=None)
@given(seed=seeds, length=counts, size=columns, count=st.integers(1, 90), data=st.data())
def test_attention_with_positions_equals_the_reference(
    isa: str, *, seed: int, length: int, size: int, count: int, data: Any
):
    queries = data.draw(st.sampled_from([length, 1, (length + 1) // 2]), "queries")
    arguments = attention_arguments(seed, queries, length, size)
    arguments[1] += floats(seed + 5, size, scale=3)  # the mean of the keys counts here
    positions = relative_positions(seed, length, size, count)
    actual = operations.attention(*arguments, positions=positions, isa=isa)
    expected = reference.attention(*arguments, positions=positions)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=one_step(arguments[2]))


@every_isa
@pytest.mark.parametrize("queries", [1, 95, 97, 300])
def test_attention_of_300_tokens_with_positions_equals_the_reference(isa: str, queries: int):
    """More queries than one block has."""
    arguments = attention_arguments(0, queries, 300, 32)
    positions = relative_positions(0, 300, 32, 50)
    actual = operations.attention(*arguments, positions=positions, isa=isa)
    expected = reference.attention(*arguments, positions=positions)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=one_step(arguments[2]))


def relative_positions(seed: int, length: int, size: int, count: int) -> Any:
    """Any position for any distance; scores of a few units."""
    rng = np.random.default_rng(seed)
    keys, queries = rng.integers(-127, 128, (2, count, size)).astype(np.int8)
    scales = (rng.uniform(0.5, 1.5, (2, count)) / (80 * size**0.5)).astype(np.float32)
    rows = rng.integers(0, count, 2 * length - 1, dtype=np.int32)
    return operations.RelativePositions(keys, 3 * scales[0], queries, scales[1], floats(seed + 4, count), rows)


@every_isa
def test_a_score_with_positions_by_hand(isa: str):
    """Two tokens that say nothing: the keys' mean, times the query of a distance, and the bias decide."""
    keys, values = np.zeros((2, 16), np.float32), np.zeros((2, 16), np.float32)
    keys[:, 0] = 0.5
    values[:, 0] = [0, 1]
    tables = np.zeros((2, 3, 16), np.int8)
    tables[1, :, 0] = [4, 0, -4]  # queries of the distances -1, 0 and 1, in steps of a half
    half = np.full(3, 0.5, np.float32)
    bias = np.array([0.25, 0, 0], np.float32)
    positions = operations.RelativePositions(tables[0], half, tables[1], half, bias, np.arange(3, dtype=np.int32))
    context = operations.attention(np.zeros((2, 16), np.float32), keys, values, positions=positions, isa=isa)
    # Token 0 scores itself 0 and token 1, at distance 0 - 1, 0.5 * 4 / 2 + 0.25. Token 1 scores token 0 -1, itself 0.
    np.testing.assert_allclose(context[:, 0], [1 / (1 + np.exp(-1.25)), 1 / (1 + np.exp(-1))], rtol=1e-4)


@every_isa
def test_attention_survives_scores_of_thousands(isa: str):
    queries = np.full((3, 16), 100, np.float32)
    keys = np.linspace(-100, 100, 20 * 16, dtype=np.float32).reshape(20, 16)
    values = np.arange(20 * 16, dtype=np.float32).reshape(20, 16)
    np.testing.assert_allclose(operations.attention(queries, keys, values, isa=isa), values[[-1] * 3], rtol=1e-6)


@every_isa
def test_a_window_of_two_sees_one_neighbour_on_each_side(isa: str):
    """Equal scores: the context is the mean of the values that are seen."""
    queries = keys = np.zeros((5, 16), np.float32)
    values = np.repeat(np.array([[1], [2], [4], [8], [16]], np.float32), 16, axis=1)
    context = operations.attention(queries, keys, values, window=2, isa=isa)
    np.testing.assert_allclose(context[:, 0], [1.5, 7 / 3, 14 / 3, 28 / 3, 12], atol=one_step(values))


@every_isa
@settings(max_examples=40, deadline=None)
@given(
    seed=seeds, rows=counts, inputs=st.integers(1, 70), outputs=st.integers(1, 70), name=st.sampled_from(ACTIVATIONS)
)
def test_dense_equals_the_reference(isa: str, *, seed: int, rows: int, inputs: int, outputs: int, name: str):
    x, weight, bias = floats(seed, rows, inputs), floats(seed + 1, outputs, inputs), floats(seed + 2, outputs)
    actual = operations.dense(x, weight, bias, name, isa)
    size = np.abs(x).max() * np.abs(weight).max() * inputs
    np.testing.assert_allclose(actual, reference.dense(x, weight, bias, name), rtol=1e-5, atol=1e-6 * (1 + size))


@every_isa
@settings(max_examples=40, deadline=None)
@given(seed=seeds, length=counts, columns=columns, typed=st.booleans())
def test_embeddings_equal_the_reference(isa: str, *, seed: int, length: int, columns: int, typed: bool):
    rng = np.random.default_rng(seed)
    words, types, positions = floats(seed, 30, columns), floats(seed + 1, 2, columns), floats(seed + 2, 40, columns)
    ids, type_ids = rng.integers(0, 30, length, dtype=np.int32), rng.integers(0, 2, length, dtype=np.int32)
    arguments = (ids, type_ids, words, types if typed else None, positions)
    np.testing.assert_array_equal(operations.embed(*arguments, isa=isa), reference.embed(*arguments))


def operations_on(seed: int) -> dict[str, Callable[[str], Any]]:
    """Every operation on arguments of odd sizes, as a function of the instruction set."""
    x, weight, bias = floats(seed, 23, 80), floats(seed + 1, 80), floats(seed + 2, 80)
    asking = attention_arguments(seed, 37, 37, 48)
    positions = relative_positions(seed, 37, 48, 20)
    whole, grouped = linear_arguments(seed, 23, 96, 80), linear_arguments(seed, 23, 96, 80, 32)
    residual = floats(seed + 6, 23, 80)
    wide = floats(seed + 7, 3_000, scale=8)
    return {
        "quantize": lambda isa: operations.quantize_rows(x, np.abs(weight), isa=isa).values,
        "linear": lambda isa: operations.linear(**whole, activation="gelu", isa=isa),
        "grouped": lambda isa: operations.linear(**grouped, group_size=32, residual=residual, isa=isa),
        "quantize_gated": lambda isa: operations.quantize_gated(x[:, :64], "gelu", isa=isa).values,
        "rotate": lambda isa: operations.rotate(x[:, :64], np.cos(residual[:, :16]), np.sin(residual[:, :16]), isa),
        "mean": lambda isa: operations.mean(x, isa),
        "layer_norm": lambda isa: operations.layer_norm(x, weight, bias, 1e-5, isa),
        "attention": lambda isa: operations.attention(*asking, isa=isa),
        "attention with positions": lambda isa: operations.attention(*asking, positions=positions, isa=isa),
        "attention in a window": lambda isa: operations.attention(*asking, window=9, isa=isa),
        "attention to states": lambda isa: operations.state_attention(x[:13], residual, isa),
        "dense": lambda isa: operations.dense(x, residual[:, :80], bias[:23], "tanh", isa),
        "exponential": lambda isa: operations.exponential(wide, isa),
        **{name: lambda isa, name=name: operations.activate(name, wide, isa) for name in ACTIVATIONS},
    }


@every_fast_isa
@pytest.mark.parametrize("name", operations_on(0))
@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_every_instruction_set_gives_the_bytes_of_the_portable_code(name: str, isa: str, seed: int):
    operation = operations_on(seed)[name]
    assert operation(isa).tobytes() == operation("portable").tobytes()


@every_fast_isa
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38, 1e-44])
def test_values_beyond_all_bounds_give_the_same_bytes_everywhere(isa: str, value: float):
    """Damaged weights can overflow to infinity: still no crash, and no difference between processors."""
    x = floats(0, 7, 32)
    x[::2, 5] = value
    quantized, expected = (operations.quantize_rows(x, isa=name) for name in (isa, "portable"))
    assert quantized.values.tobytes() == expected.values.tobytes()
    assert quantized.zero_points.tobytes() == expected.zero_points.tobytes()
    np.testing.assert_array_equal(quantized.scales, expected.scales)
