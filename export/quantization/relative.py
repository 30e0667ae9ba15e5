"""DeBERTa's relative positions in int8, as the kernels read them (docs/kernels.md)."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pairscore.export.encoder.formula import Relative
from pairscore.runtime.types import FloatArray

_LARGEST = 127


def quantized_positions(relative: Relative, key_bias: FloatArray, heads: int) -> dict[str, npt.NDArray[Any]]:
    """The keys and queries of a layer's positions, rounded with a scale for each position and head.

    The mean over all positions is taken off the keys: it moves all scores of a query alike, which softmax does not see.
    `position_bias` makes up for the rounding of the queries where they meet `key_bias`, which all keys of tokens share.
    """
    size = relative.key.shape[1] // heads
    keys, key_scales = _rounded(relative.key - relative.key.mean(axis=0), heads)
    exact = relative.query / np.float32(size**0.5)
    queries, query_scales = _rounded(exact, heads)
    error = exact - queries * np.repeat(query_scales, size, axis=1)
    return {
        "position_key.weight": keys,
        "position_key.scale": key_scales,
        "position_query.weight": queries,
        "position_query.scale": query_scales,
        "position_bias": (error * key_bias).reshape(len(error), heads, size).sum(axis=2),
    }


def _rounded(table: FloatArray, heads: int) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Codes of Shape (positions, hidden), and scales of Shape (positions, heads)."""
    by_head = table.reshape(len(table), heads, -1)
    scales = np.abs(by_head).max(axis=2) / np.float32(_LARGEST)
    scales[scales == 0] = 1
    codes = np.rint(by_head / scales[:, :, None]).astype(np.int8)
    return codes.reshape(table.shape), scales.astype(np.float32)
