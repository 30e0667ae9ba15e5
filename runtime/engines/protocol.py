"""The interface of every engine, and the options that say how an engine uses the machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.machine import available_cores
from pairscore.runtime.types import FloatArray


class Engine(Protocol):
    """Runs one graph on one device.

    `callers`: how many threads should call `run` at once. `token_budget`: tokens in a good batch.
    """

    name: str
    device: str
    callers: int
    token_budget: int

    def run(self, batch: Batch) -> FloatArray:
        """Logits of the batch, Shape (n, labels), float32. Safe to call from several threads."""
        ...


@dataclass(frozen=True)
class EngineOptions:
    """How an engine uses the machine. None: the engine decides. No option changes a score by more than its promise
    allows.

    `threads`: cores that a CPU engine computes on; by default all that this process may use. `threads_per_batch`: cores
    that share one batch, so that `threads // threads_per_batch` batches are computed at once. `token_budget`: tokens
    in a batch. `streams`: batches that a GPU works on at once, so that it copies one while it computes another.
    `settings`: properties of the engine, by its own names; the variant fixes them.
    """

    threads: int | None = None
    threads_per_batch: int = 1
    token_budget: int | None = None
    streams: int = 3
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("threads", "threads_per_batch", "token_budget", "streams"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise PairscoreError(f"{name} is {value}: use at least 1, or leave it out")

    @property
    def callers(self) -> int:
        """Batches that a CPU engine computes at once."""
        return max(1, (self.threads or available_cores()) // self.threads_per_batch)
