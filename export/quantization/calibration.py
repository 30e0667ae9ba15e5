"""The user's own pairs, half of them to fit a quantized graph to, half to judge it on."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper

from pairscore.export.graphs.editing import session_of
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.onnxruntime.session import input_types
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.types import Pair

# More pairs change the fit no further, and each costs as much as scoring it twice.
FITTED_PAIRS = 512
JUDGED_PAIRS = 1024


@dataclass(frozen=True)
class Calibration:
    """Pairs, and which of them hold relevant evidence where that is known."""

    pairs: tuple[Pair, ...]
    labels: tuple[bool, ...] | None = None

    def split(self) -> tuple["Calibration", "Calibration"]:
        """The pairs to fit to and those to judge on: no claim is in both, and the draw is always the same.

        Raises PairscoreError with fewer than two claims.
        """
        claims = list(dict.fromkeys(claim for claim, _ in self.pairs))
        if len(claims) < 2:
            raise PairscoreError("the calibration pairs have fewer than 2 different claims: give a larger file")
        random.Random(0).shuffle(claims)
        fitted = set(claims[: len(claims) // 2])
        return (
            self._of([claim in fitted for claim, _ in self.pairs], FITTED_PAIRS),
            self._of([claim not in fitted for claim, _ in self.pairs], JUDGED_PAIRS),
        )

    def _of(self, chosen: list[bool], most: int) -> "Calibration":
        """Of the chosen rows, at most `most`: whole claims, so that their ranking can be judged."""
        rows_of: dict[str, list[int]] = {}
        for row, (claim, _) in enumerate(self.pairs):
            if chosen[row]:
                rows_of.setdefault(claim, []).append(row)
        claims = list(rows_of)
        random.Random(1).shuffle(claims)
        rows = [row for claim in claims for row in rows_of[claim]][:most]
        return Calibration(
            tuple(self.pairs[row] for row in rows), self.labels and tuple(self.labels[row] for row in rows)
        )


@dataclass(frozen=True)
class Seen:
    """What a tensor of Shape (..., channels) held in a run. `hessian`: the sum of x xᵀ over its rows x, Shape
    (channels, channels). `largest`: absolute values, Shape (channels,).
    """

    hessian: npt.NDArray[np.float32]
    largest: npt.NDArray[np.float32]


def observe(graph: Path, tensors: Iterable[str], batches: Iterable[Batch]) -> Mapping[str, Seen]:
    """Run the graph at `graph` over `batches` and look at its `tensors`, each of Shape (..., channels)."""
    model = onnx.load(str(graph))
    names = list(dict.fromkeys(tensors))
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in known)
    session = session_of(model, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC)  # fusions would remove the tensors
    inputs = input_types(session)
    seen: dict[str, Seen] = {}
    for batch in batches:
        values: list[Any] = list(session.run(names, batch.feeds(inputs)))
        for name, value in zip(names, values, strict=True):
            rows = np.asarray(value, dtype=np.float32).reshape(-1, value.shape[-1])
            hessian, largest = rows.T @ rows, np.abs(rows).max(axis=0)
            before = seen.get(name)
            if before is not None:
                hessian, largest = before.hessian + hessian, np.maximum(before.largest, largest)
            seen[name] = Seen(hessian, largest)
    return seen
