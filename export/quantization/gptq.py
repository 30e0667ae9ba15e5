"""Round a weight matrix to int8 in groups, each rounding error made up for by the weights not rounded yet.

Source of the method: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", arXiv 2210.17323, algorithm 1, with one symmetric scale for each group of input channels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

FloatMatrix = npt.NDArray[np.float32]
Hessian = npt.NDArray[np.float32] | npt.NDArray[np.float64]

# Code of the weight zero: MatMulNBits takes unsigned codes and subtracts this when no zero points are given.
ZERO_CODE = 128
LARGEST_CODE = 127
# Share of the mean diagonal that is added to the Hessian, as in the paper: channels that are never active have none.
_DAMPING = 0.01
# Inputs whose updates are applied to the rest at once, by one matrix product.
_BLOCK = 128


@dataclass(frozen=True)
class GroupedWeight:
    """A quantized matrix of `inputs` x `outputs`.

    `codes`: Shape (outputs, groups, group size), uint8, `ZERO_CODE` for zero. `scales`: Shape (outputs, groups).
    """

    codes: npt.NDArray[np.uint8]
    scales: FloatMatrix

    def dequantized(self) -> FloatMatrix:
        """The weights that the codes stand for, Shape (inputs, outputs)."""
        values = (self.codes.astype(np.float32) - ZERO_CODE) * self.scales[..., None]
        return np.ascontiguousarray(values.reshape(len(values), -1).T)


def gptq(
    weight: FloatMatrix, hessian: Hessian | None, group_size: int, largest_sum: int | None = None
) -> GroupedWeight:
    """Quantize so that the layer's outputs change little on the data behind `hessian`.

    weight: Shape (inputs, outputs); `group_size` divides the inputs. hessian: Shape (inputs, inputs), the sum of
    x xᵀ over the rows x that the layer saw; None rounds to nearest. largest_sum: the most that the codes of one side of
    `ZERO_CODE` may add up to among four inputs, so that a processor can add their products in 16 bits: of each eight
    inputs 0, 1, 4 and 5, and 2, 3, 6 and 7. `group_size` is a multiple of eight then, and a group's scale the smallest
    that allows it.

    The inputs with the largest values are rounded first, since more weights are left to make up for them: `act_order`
    of the authors' code. So scales are those of the weights as they are given.
    """
    inputs, outputs = weight.shape
    hessian = np.eye(inputs, dtype=np.float32) if hessian is None else hessian
    order = np.argsort(np.negative(np.diag(hessian)), kind="stable")
    factor = _inverse_factor(hessian[np.ix_(order, order)])
    groups = np.ascontiguousarray(weight.T, dtype=np.float32).reshape(outputs, -1, group_size)
    scales = _scales(groups, largest_sum)
    left = weight[order].astype(np.float32)
    codes = np.empty(left.shape, np.uint8)
    # What the codes of each four that are rounded already add up to, on either side.
    above, below = np.zeros((2, inputs // 8 * 2 + 2, outputs), np.float32)
    for start in range(0, inputs, _BLOCK):
        stop = min(start + _BLOCK, inputs)
        errors = np.empty((stop - start, outputs), np.float32)
        for place in range(start, stop):
            row = order[place]
            scale = scales[:, row // group_size]
            value = np.rint(left[place] / scale)
            four = row // 8 * 2 + row // 2 % 2
            if largest_sum is not None:
                value = np.clip(value, -largest_sum - below[four], largest_sum - above[four])
            value = np.clip(value, -LARGEST_CODE, LARGEST_CODE)
            if largest_sum is not None:
                above[four] += np.maximum(value, 0)
                below[four] += np.minimum(value, 0)
            codes[row] = value + ZERO_CODE
            error = (left[place] - value * scale) / factor[place, place]
            left[place:stop] -= np.outer(factor[place, place:stop], error)
            errors[place - start] = error
        left[stop:] -= factor[start:stop, stop:].T @ errors
    return GroupedWeight(np.ascontiguousarray(codes.T).reshape(outputs, -1, group_size), scales)


def rotated(matrix: npt.NDArray[Any], order: int) -> npt.NDArray[Any]:
    """Rows of a matrix turned by a Hadamard matrix H of that order, a power of two; 0: as they are.

    Row block * 16 * order + b * 16 + lane is turned over b, as the kernels turn the channels of what a product reads.
    H is its own inverse but for the factor `order`: (H x)ᵀ (H w) = order xᵀ w.

    Source: Ashkboos et al., "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", arXiv 2404.00456. A channel that is
    much larger than the others is spread over `order` channels.
    """
    if not order:
        return matrix
    hadamard = np.ones((1, 1), np.float32)
    while len(hadamard) < order:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    blocks = matrix.reshape(-1, order, 16, matrix.shape[1])
    turned: npt.NDArray[Any] = np.einsum("bc,kclo->kblo", hadamard, blocks).reshape(matrix.shape)
    return turned


def _inverse_factor(hessian: Hessian) -> FloatMatrix:
    """Upper Cholesky factor of the damped Hessian's inverse."""
    damped = torch.from_numpy(hessian.astype(np.float64))
    diagonal = damped.diagonal()
    diagonal += _DAMPING * max(float(diagonal.mean()), 1e-30)
    # The Hessian is U Uᵀ, where U is its lower factor from the last row and column on; so its inverse is U⁻ᵀ U⁻¹.
    upper = torch.linalg.cholesky(damped.flip(0, 1)).flip(0, 1)
    factor = torch.linalg.solve_triangular(upper, torch.eye(len(upper), dtype=torch.float64), upper=True)
    return np.ascontiguousarray(factor.numpy(), dtype=np.float32)


def _scales(groups: FloatMatrix, largest_sum: int | None = None) -> FloatMatrix:
    step = np.abs(groups).max(axis=-1) / LARGEST_CODE
    if largest_sum is not None:
        for fours in _fours(groups):
            for one_sign in (np.maximum(fours, 0), np.maximum(-fours, 0)):
                step = np.maximum(step, one_sign.sum(axis=-1).max(axis=-1) / largest_sum)
    scales: FloatMatrix = np.where(step > 0, step, 1.0).astype(np.float32)
    return scales


def _fours(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Inputs 0, 1, 4 and 5 of each eight, and 2, 3, 6 and 7: each of Shape (..., eights, 4)."""
    eights = values.reshape(*values.shape[:-1], -1, 8)
    return eights[..., [0, 1, 4, 5]], eights[..., [2, 3, 6, 7]]
