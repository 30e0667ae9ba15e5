"""Windows of pairs through tokenizer and engine: overlapped, in order, bounded."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pairscore.runtime.engines.protocol import Engine
from pairscore.runtime.errors import PairscoreError, one_line
from pairscore.runtime.stream.batching import TokenizedPairs, plan_batches, tokenize_pairs
from pairscore.runtime.stream.passages import LongEvidence, Passages
from pairscore.runtime.text.tokenizer import PairTokenizer
from pairscore.runtime.types import FloatArray, Int64Array

T = TypeVar("T")

# One window computes while the caller writes the one before and reads the one after.
_WINDOWS_IN_FLIGHT = 2


@dataclass(frozen=True)
class Window(Generic[T]):
    """Pairs to score together. `claims`, `evidence`: string arrays of one length, without nulls."""

    claims: pa.StringArray
    evidence: pa.StringArray
    payload: T


@dataclass
class Statistics:
    """Counts and times of one window. `tokens` counts model inputs, specials included, of unique pairs; none of them
    is padding. `truncated`: pairs of which tokens were left out. `passages`: model inputs beyond one a unique pair, for
    evidence that was split.

    `tokenize_seconds` is wall time in the tokenizing thread; `engine_seconds` is summed over the threads
    that call the engine; `engine_busy_seconds` is the wall time in which at least one of them was in it; overlapping
    windows count a moment once.
    """

    pairs: int = 0
    unique_pairs: int = 0
    truncated: int = 0
    passages: int = 0
    texts: int = 0
    tokens: int = 0
    batches: int = 0
    tokenize_seconds: float = 0.0
    engine_seconds: float = 0.0
    engine_busy_seconds: float = 0.0

    def add(self, other: "Statistics") -> None:
        """Add another window's figures to these."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True)
class Scored(Generic[T]):
    """A window's result.

    `computed`: the engine's logits, Shape (passages, labels). `passages`: those of the window's different pairs; None
    where each pair is one. `pair_of`: Shape (pairs,), which of the different pairs stands in each row. `cut`: Shape
    (different pairs,), whether tokens were left out.
    """

    payload: T
    computed: FloatArray
    passages: Passages | None
    pair_of: Int64Array
    cut: npt.NDArray[np.bool_]
    statistics: Statistics

    @property
    def logits(self) -> FloatArray:
        """Shape (pairs, labels), in the window's order; of split evidence, combined as scores are."""
        return self.scores(lambda logits: logits)

    @property
    def truncated(self) -> npt.NDArray[np.bool_]:
        """Which pairs were cut. Shape (pairs,), in the window's order."""
        return self.cut[self.pair_of]

    def scores(self, activate: Callable[[FloatArray], FloatArray]) -> FloatArray:
        """Shape (pairs, labels), in the window's order. activate: logits to scores, row by row."""
        scores = activate(self.computed)
        return (scores if self.passages is None else self.passages.combine(scores))[self.pair_of]


class Busy:
    """Adds up the time in which at least one thread is inside, without keeping any interval."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._counted_to = 0.0

    def enter(self, now: float) -> None:
        """A thread begins. now: of the clock that `leave` is given as well."""
        with self._lock:
            if not self._inside:
                self._counted_to = max(self._counted_to, now)
            self._inside += 1

    def leave(self, now: float) -> float:
        """A thread ends. Returns the seconds that belong to the union and were not returned before."""
        with self._lock:
            self._inside -= 1
            # Threads may take the lock in another order than they read the clock.
            more = max(0.0, now - self._counted_to)
            self._counted_to += more
            return more


@dataclass(frozen=True)
class _Job(Generic[T]):
    """A tokenized window whose batches are with the engine's callers. `logits`: of the passages of its pairs."""

    payload: T
    logits: FloatArray
    pairs: TokenizedPairs
    statistics: Statistics
    batches: list[Future[None]]
    lock: threading.Lock = field(default_factory=threading.Lock)


def stream(
    windows: Iterable[Window[T]],
    tokenizer: PairTokenizer,
    engine: Engine,
    labels: int,
    *,
    on_tokenized: Callable[[T, int], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    batch_size: int | None = None,
    long: LongEvidence | None = None,
) -> Generator[Scored[T], None, None]:
    """Score windows, in order; one computes while the next is tokenized.

    `windows` is read in the caller's thread, at most one window ahead of what has been yielded.
    `on_tokenized`: called with a window's payload and tokens, as of `Statistics`, before its first batch is computed.
    `on_progress`: called with the numbers of pairs and of tokens of each finished batch, from the engine's threads.
    `batch_size`: at most so many pairs in one batch; by default what fits the engine's token budget.
    `long`: how evidence that does not fit is split; None to cut it.
    Closing the iterator early drops what has not started. Raises what the engine raises, and
    PairscoreError for a logit that is not finite.
    """
    if long is not None:
        long.check(tokenizer.room)
    jobs: deque[Future[_Job[T]]] = deque()
    callers = ThreadPoolExecutor(engine.callers, thread_name_prefix="pairscore-engine")
    preparer = ThreadPoolExecutor(1, thread_name_prefix="pairscore-tokenize")
    busy = Busy()

    def prepare(window: Window[T]) -> _Job[T]:
        started = time.perf_counter()
        pairs = tokenize_pairs(tokenizer, window.claims, window.evidence, long)
        plan = plan_batches(pairs.lengths, engine.token_budget, batch_size)
        statistics = Statistics(
            pairs=len(window.claims),
            unique_pairs=len(pairs.truncated),
            truncated=int(pairs.truncated[pairs.pair_of].sum()),
            passages=len(pairs) - len(pairs.truncated),
            texts=pairs.texts,
            tokens=int(pairs.lengths.sum()),
            batches=len(plan),
            tokenize_seconds=time.perf_counter() - started,
        )
        if on_tokenized is not None:
            on_tokenized(window.payload, statistics.tokens)
        logits = tokenizer.logits_of_empty(pairs.lengths, labels)
        job = _Job(window.payload, logits, pairs, statistics, [])
        job.batches.extend(callers.submit(run, job, rows) for rows in plan)
        return job

    def run(job: _Job[T], rows: Int64Array) -> None:
        batch = job.pairs.batch(rows)
        started = time.perf_counter()
        busy.enter(started)
        try:
            logits = engine.run(batch)
        except Exception as error:  # libraries raise many kinds
            rows, length = batch.input_ids.shape
            raise PairscoreError(
                f"{engine.name} cannot compute {rows} pairs of {length} tokens ({one_line(error)}): "
                "use another --engine, or export the bundle again with a smaller --max-length"
            ) from error
        ended = time.perf_counter()
        more_busy = busy.leave(ended)
        if not np.isfinite(logits).all():
            raise PairscoreError("the model gave a logit that is not finite: export the bundle again")
        job.logits[rows] = logits
        with job.lock:
            job.statistics.engine_seconds += ended - started
            job.statistics.engine_busy_seconds += more_busy
        if on_progress is not None:
            on_progress(int(job.pairs.copies[rows].sum()), batch.input_ids.size)

    def finish(job: _Job[T]) -> Scored[T]:
        done, _ = wait(job.batches, return_when=FIRST_EXCEPTION)
        for batch in done:
            batch.result()
        pairs = job.pairs
        return Scored(job.payload, job.logits, pairs.passages, pairs.pair_of, pairs.truncated, job.statistics)

    try:
        for window in windows:
            jobs.append(preparer.submit(prepare, window))
            if len(jobs) == _WINDOWS_IN_FLIGHT:
                yield finish(jobs.popleft().result())
        while jobs:
            yield finish(jobs.popleft().result())
    finally:
        # The preparer is shut down first, since it hands work to the callers.
        preparer.shutdown(wait=True, cancel_futures=True)
        callers.shutdown(wait=True, cancel_futures=True)
