"""Several engines on one device: together they compute no more batches at once than one of them would."""

import threading
from collections.abc import Sequence

from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.protocol import Engine
from pairscore.runtime.types import FloatArray


class LimitedEngine:
    """An engine that waits for a place before it computes a batch."""

    def __init__(self, engine: Engine, places: threading.Semaphore) -> None:
        self._engine, self._places = engine, places
        self.name, self.device = engine.name, engine.device
        self.callers, self.token_budget = engine.callers, engine.token_budget

    def run(self, batch: Batch) -> FloatArray:
        """Logits of the batch, Shape (n, labels)."""
        with self._places:
            return self._engine.run(batch)


def limit_callers(engines: Sequence[Engine]) -> list[LimitedEngine]:
    """The engines with as many places, all together, as the one that has most callers."""
    places = threading.Semaphore(max(engine.callers for engine in engines))
    return [LimitedEngine(engine, places) for engine in engines]
