"""The user's own pairs, half of them to fit a quantized graph to, half to judge it on."""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pairscore.export.encoder.formula import Rows
from pairscore.export.model import LogitsModel
from pairscore.export.reference import quiet
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.types import Pair

# More pairs change the fit no further, and each costs as much as scoring it twice.
FITTED_PAIRS = 512
JUDGED_PAIRS = 1024


@dataclass(frozen=True)
class CalibrationPairs:
    """Pairs, and which of them hold relevant evidence where that is known."""

    pairs: tuple[Pair, ...]
    labels: tuple[bool, ...] | None = None

    def split(self) -> tuple["CalibrationPairs", "CalibrationPairs"]:
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

    def _of(self, chosen: list[bool], most: int) -> "CalibrationPairs":
        """Of the chosen rows, at most `most`: whole claims, so that their ranking can be judged."""
        rows_of: dict[str, list[int]] = {}
        for row, (claim, _) in enumerate(self.pairs):
            if chosen[row]:
                rows_of.setdefault(claim, []).append(row)
        claims = list(rows_of)
        random.Random(1).shuffle(claims)
        rows = [row for claim in claims for row in rows_of[claim]][:most]
        return CalibrationPairs(
            tuple(self.pairs[row] for row in rows), self.labels and tuple(self.labels[row] for row in rows)
        )


@dataclass(frozen=True)
class Seen:
    """What a product read in a run. `hessian`: the sum of x xᵀ over its rows x, Shape (channels, channels). `total`:
    the sum of the rows, Shape (channels,). `rows`: how many there were.
    """

    hessian: npt.NDArray[np.float32]
    total: npt.NDArray[np.float32]
    rows: int


def observe(model: LogitsModel, wanted: Iterable[Rows], batches: Iterable[Batch]) -> Mapping[Rows, Seen]:
    """Run PyTorch over `batches` and look at what its modules read."""
    wanted = frozenset(wanted)
    seen: dict[Rows, Seen] = {}

    def look(rows: Rows) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            values = given[0][:, :1] if rows.first_only and given[0].ndim > 2 else given[0]
            values = values.reshape(-1, values.shape[-1])
            hessian, total, count = (values.T @ values).numpy(), values.sum(dim=0).numpy(), len(values)
            before = seen.get(rows)
            if before is not None:
                hessian, total, count = before.hessian + hessian, before.total + total, before.rows + count
            seen[rows] = Seen(hessian, total, count)

        return hook

    modules = dict(model.model.named_modules())
    handles = [modules[rows.module].register_forward_pre_hook(look(rows)) for rows in wanted]
    try:
        with torch.inference_mode(), quiet():
            for batch in batches:
                model(*(torch.from_numpy(batch.input(name)).long() for name in model.inputs))
    finally:
        for handle in handles:
            handle.remove()
    return seen
