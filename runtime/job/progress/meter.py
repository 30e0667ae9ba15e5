"""How far a job is: counted by many threads, given to a callback at intervals."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_SECONDS = 0.25

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a job is. `done`, `total`: input rows, those of earlier runs included.

    `pairs_per_second`: rows a second in this run. `seconds_left`: at this run's rate in tokens, since the longest pairs
    of a window come first; at its rate in rows where nothing had to be computed; None before there is either.
    """

    done: int
    total: int
    pairs_per_second: float
    seconds_left: float | None

    @property
    def share(self) -> float:
        """What is done, from 0 to 1."""
        return self.done / self.total if self.total else 1.0


class Meter:
    """Counts rows and tokens from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._before = 0
        # Rows whose tokens are known, their tokens, and how many of these are computed.
        self._known_rows = self._known_tokens = self._computed_tokens = 0
        self.total = 0
        self.done = 0

    def start(self, total: int, before: int) -> None:
        """Begin a run of `total` rows of which `before` are already scored."""
        self._started = time.monotonic()
        self.total, self._before, self.done = total, before, before

    def expect(self, rows: int, tokens: int) -> None:
        """It is known now that these rows of the input have so many tokens to compute."""
        with self._lock:
            self._known_rows += rows
            self._known_tokens += tokens

    def add(self, rows: int, tokens: int = 0) -> None:
        """Some more rows are done, for which so many tokens were computed."""
        with self._lock:
            self.done += rows
            self._computed_tokens += tokens

    def progress(self) -> Progress:
        """How far it is now."""
        with self._lock:
            done, new = self.done, self.done - self._before
            seconds = max(time.monotonic() - self._started, 1e-9)
            seconds_left: float | None = None
            if self._computed_tokens:
                unknown_rows = self.total - self._before - self._known_rows
                tokens = self._known_tokens * (1 + unknown_rows / self._known_rows)
                seconds_left = seconds * max(0.0, tokens / self._computed_tokens - 1)
            elif new:
                seconds_left = seconds * (self.total - done) / new
        return Progress(done=done, total=self.total, pairs_per_second=new / seconds, seconds_left=seconds_left)


@contextmanager
def reported(meter: Meter, callback: Callable[[Progress], None] | None, seconds: float = _SECONDS) -> Iterator[None]:
    """Call `callback` every so many seconds while the block runs, from a thread of its own, and once at the end.

    A callback that raises is not called again; what it raised is logged, and the block goes on.
    """
    if callback is None:
        yield
        return
    stop = threading.Event()

    def tick() -> None:
        try:
            while not stop.wait(seconds):
                callback(meter.progress())
            callback(meter.progress())
        except Exception:
            _log.exception("the progress callback failed, and is not called again")

    thread = threading.Thread(target=tick, name="pairscore-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def duration(seconds: float) -> str:
    """Seconds as people say them: "4.5 s", "45 s", "3 min 20 s", "4 h 28 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
