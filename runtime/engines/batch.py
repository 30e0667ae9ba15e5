"""The input of an engine: token ids of pairs of one length."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.types import Int32Array, Int64Array


@dataclass(frozen=True)
class Batch:
    """Model inputs for pairs of one length.

    `rows`: Shape (n,), which of the window's different pairs. `input_ids`, `token_type_ids`: Shape (n, length).
    """

    rows: Int64Array
    input_ids: Int32Array
    token_type_ids: Int32Array

    def input(self, name: str) -> Int32Array:
        """The model input of this name, Shape (n, length). Raises PairscoreError for one that it cannot make.

        The engine converts them where its graph takes wider integers.
        """
        match name:
            case "input_ids":
                return self.input_ids
            case "token_type_ids":
                return self.token_type_ids
            case "attention_mask":
                return np.ones_like(self.input_ids)
        raise PairscoreError(f"the graph wants an input {name!r}, which no pair has: export the bundle again")

    def feeds(self, kinds: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """The inputs of a graph: each name of `kinds` with an array of its type of number."""
        return {name: self.input(name).astype(kind, copy=False) for name, kind in kinds.items()}

    def part(self, rows: slice) -> "Batch":
        """Some of its pairs."""
        return Batch(self.rows[rows], self.input_ids[rows], self.token_type_ids[rows])
