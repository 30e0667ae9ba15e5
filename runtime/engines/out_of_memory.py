"""A batch that does not fit into memory is halved. Later batches keep to the smaller size."""

import threading

import numpy as np

from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.protocol import Engine
from pairscore.runtime.types import FloatArray

# Words by which errors of ONNX Runtime, CUDA, cuBLAS and C++ allocators are known. Their exceptions have no type of
# their own.
_WORDS = (
    "out of memory",
    "failed to allocate memory",
    "out_of_memory",
    "alloc_failed",
    "bad allocation",
    "bad_alloc",
    "bfcarena",
)


class HalvingEngine:
    """Wraps an engine, and never gives it more tokens than have fitted before.

    `most_tokens`: of the largest batch to try; None if every batch has fitted so far.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self.most_tokens: int | None = None
        self.name = engine.name
        self.device = engine.device
        self.callers = engine.callers
        self.token_budget = engine.token_budget

    def run(self, batch: Batch) -> FloatArray:
        """Logits of the batch, Shape (n, labels). Raises what the engine raises when a single pair does not fit."""
        if len(batch.rows) > 1 and self.most_tokens is not None and batch.input_ids.size > self.most_tokens:
            return self._halves(batch)
        try:
            return self._engine.run(batch)
        except Exception as error:
            if not is_out_of_memory(error) or len(batch.rows) == 1:
                raise
            with self._lock:
                half = batch.input_ids.size // 2
                self.most_tokens = min(self.most_tokens or half, half)
        return self._halves(batch)

    def _halves(self, batch: Batch) -> FloatArray:
        middle = len(batch.rows) // 2
        return np.concatenate([self.run(batch.part(part)) for part in (slice(0, middle), slice(middle, None))])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an engine's error says that memory did not suffice."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(word in text for word in _WORDS)
