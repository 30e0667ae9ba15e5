"""Rows of different lengths in one flat array, as Arrow keeps lists."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np

from pairscore.runtime.types import Int32Array, Int64Array


@dataclass(frozen=True)
class Ragged:
    """`values`: Shape (total,). `offsets`: Shape (rows + 1,); row i lies between two of them."""

    values: Int32Array
    offsets: Int64Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Int32Array:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> Int64Array:
        """Shape (rows,)."""
        return np.diff(self.offsets)

    def take(self, rows: Int64Array) -> "Ragged":
        """The rows at `rows`, Shape (n,), in that order."""
        lengths = self.lengths[rows]
        offsets = offsets_of(lengths)
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return Ragged(self.values[places], offsets)

    @staticmethod
    def from_lists(lists: list[list[int]]) -> "Ragged":
        """Lists of whole numbers, one after the other."""
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        values = np.fromiter(chain.from_iterable(lists), dtype=np.int32, count=int(lengths.sum()))
        return Ragged(values, offsets_of(lengths))

    @staticmethod
    def concatenate(parts: Iterable["Ragged"]) -> "Ragged":
        """The rows of all parts, in order."""
        parts = list(parts)
        if not parts:
            return Ragged(np.empty(0, np.int32), np.zeros(1, np.int64))
        lengths = np.concatenate([part.lengths for part in parts])
        return Ragged(np.concatenate([part.values for part in parts]), offsets_of(lengths))


def offsets_of(lengths: Int64Array) -> Int64Array:
    """The start of each row, and the total at the end. lengths: Shape (rows,); the result: Shape (rows + 1,)."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
