"""Rounding in groups, against the method written out one column at a time."""

import numpy as np
import pytest

from pairscore.export.quantization.gptq import ZERO_CODE, gptq

# Whose products AVX2 adds in 16 bits.
FOURS = ([0, 1, 4, 5], [2, 3, 6, 7])


def problem(inputs, outputs, rows=400, seed=0):
    """Weights, and inputs whose channels depend on each other: there GPTQ has something to make up for."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(inputs, inputs)) / np.sqrt(inputs)
    data = (random.normal(size=(rows, inputs)) @ mixing + 0.1 * random.normal(size=(rows, inputs))).astype(np.float32)
    return random.normal(size=(inputs, outputs)).astype(np.float32), data


def slow_gptq(weight, hessian, group_size, largest_sum):
    """Algorithm 1 of the paper without its blocks: after each column the others are updated with the exact inverse.
    Columns come in the order of their activity. Each weight is rounded by itself, to what those of its four leave.
    """
    left = weight.T.astype(np.float64)
    damped = hessian + 0.01 * np.mean(np.diag(hessian)) * np.eye(len(hessian))
    scales = np.array(
        [[smallest_scale(group, largest_sum) for group in row.reshape(-1, group_size)] for row in weight.T]
    )
    codes = np.zeros(left.shape)
    order = np.argsort(-np.diag(hessian))
    for place, column in enumerate(order):
        scale = scales[:, column // group_size]
        for row, value in enumerate(left[:, column] / scale):
            most, least = 127, -127
            if largest_sum:
                (four,) = (four for four in FOURS if column % 8 in four)
                others = codes[row, [column // 8 * 8 + other for other in four]]
                most = min(most, largest_sum - others[others > 0].sum())
                least = max(least, -largest_sum - others[others < 0].sum())
            codes[row, column] = min(max(round(value), least), most)
        rest = order[place:]
        inverse = np.linalg.inv(damped[np.ix_(rest, rest)])
        error = (left[:, column] - codes[:, column] * scale) / inverse[0, 0]
        left[:, rest] -= np.outer(error, inverse[0])
    return (codes * np.repeat(scales, group_size, axis=1)).T


def smallest_scale(row, largest_sum):
    steps = [abs(value) / 127 for value in row]
    for first in range(0, len(row) if largest_sum else 0, 8):
        for four in FOURS:
            values = [row[first + place] for place in four]
            steps += [abs(sum(value for value in values if value * sign > 0)) / largest_sum for sign in (1, -1)]
    return max(steps)


@pytest.mark.parametrize("largest_sum", [None, 128])
@pytest.mark.parametrize(("inputs", "group_size"), [(64, 32), (192, 64), (192, 96), (160, 160)])
def test_gptq_is_the_slow_method(inputs, group_size, largest_sum):
    weight, data = problem(inputs, 24)
    hessian = data.T @ data
    ours = gptq(weight, hessian, group_size, largest_sum).dequantized()
    slow = slow_gptq(weight, hessian, group_size, largest_sum)
    # A value halfway between two codes may go either way in float32; those after it then follow.
    assert np.mean(np.abs(ours - slow) > 1e-3) < 0.01


@pytest.mark.parametrize("spread", [1.0, 30.0])
@pytest.mark.parametrize("group_size", [32, 96])
def test_codes_of_one_side_add_up_to_what_is_allowed(group_size, spread):
    """Also where weights grow on the way: those of rare inputs, which make up for all others."""
    weight, data = problem(96, 64)
    data[:, ::3] *= spread
    codes = gptq(weight, data.T @ data, group_size, 128).codes.reshape(64, -1, 8).astype(int) - ZERO_CODE
    fours = np.concatenate([codes[..., four] for four in FOURS])
    sums = np.stack([np.maximum(fours, 0).sum(axis=-1), np.maximum(-fours, 0).sum(axis=-1)])
    assert sums.max() == 128
    assert np.abs(codes).max() > 100


@pytest.mark.parametrize("seed", range(3))
def test_outputs_are_closer_than_after_rounding_to_nearest(seed):
    weight, data = problem(192, 32, seed=seed)
    expected = data @ weight

    def error(grouped):
        return np.square(data @ grouped.dequantized() - expected).mean()

    assert error(gptq(weight, data.T @ data, 64)) < 0.8 * error(gptq(weight, None, 64))


def test_rounding_to_nearest_is_off_by_at_most_half_a_step():
    weight, _ = problem(96, 10)
    grouped = gptq(weight, None, 32)
    assert grouped.codes.shape == (10, 3, 32)
    assert grouped.scales.shape == (10, 3)
    off = np.abs(grouped.dequantized() - weight).T.reshape(10, 3, 32)
    assert (off <= grouped.scales[..., None] / 2 + 1e-7).all()


def test_zeros_stay_zero_and_dead_channels_are_no_trouble():
    weight = np.zeros((64, 4), np.float32)
    weight[:32, 0] = 1.0
    for grouped in (gptq(weight, None, 32), gptq(weight, np.zeros((64, 64), np.float32), 32)):
        np.testing.assert_allclose(grouped.dequantized(), weight, atol=1e-6)
        assert (grouped.codes[1:] == ZERO_CODE).all()
