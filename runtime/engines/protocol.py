"""What every engine offers, and what it may be told about the machine."""

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
    """How an engine uses the machine; None where it decides itself. No option changes a score beyond its promise.

    `threads`: cores that a CPU engine computes on, all that this process may use by default. `threads_per_batch`:
    how many of them share one batch, so that `threads // threads_per_batch` batches are computed at once.
    `token_budget`: tokens in a batch. `streams`: batches that a GPU has in hand at once, so that the copies and the
    launches of one hide behind another's computing. `pinned`: a GPU's inputs and outputs go through page-locked memory
    of our own. `settings`: properties by the engine's own names, fixed by the variant.
    """

    threads: int | None = None
    threads_per_batch: int = 1
    token_budget: int | None = None
    streams: int = 2
    pinned: bool = False
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
