"""How busy an engine is said to be: the union of its callers' times, against the obvious sum over intervals."""

import threading
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscore.runtime.job.summary import JobFigures
from pairscore.runtime.stream.pipeline import Busy, Statistics, Window, stream
from pairscore.runtime.text.tokenizer import PairTokenizer
from tests.stream.test_batching import word_tokenizer

intervals = st.lists(
    st.tuples(st.integers(1, 60), st.integers(1, 20)).map(lambda each: (each[0], sum(each))), max_size=12
)


@given(intervals, st.sampled_from([("enter", "leave"), ("leave", "enter")]))
def test_busy_time_is_that_of_the_union(spans: list[tuple[int, int]], order: tuple[str, str]) -> None:
    """Each second counts once when some interval covers it, whichever of two threads comes first at one moment."""
    events = [(start, "enter") for start, _ in spans] + [(stop, "leave") for _, stop in spans]
    busy, total = Busy(), 0.0
    for now, what in sorted(events, key=lambda event: (event[0], order.index(event[1]))):
        if what == "enter":
            busy.enter(float(now))
        else:
            total += busy.leave(float(now))
    assert total == sum(any(start <= second < stop for start, stop in spans) for second in range(1, 81))


def test_a_clock_read_before_another_thread_left_counts_nothing_twice() -> None:
    busy = Busy()
    busy.enter(1.0)
    assert busy.leave(5.0) == 4.0
    busy.enter(4.5)  # read its clock at 4.5, came to the lock after 5.0
    assert busy.leave(6.0) == 1.0


class Together:
    """Two callers are inside for the same tenth of a second, then nobody for as long."""

    name, device, callers, token_budget = "together", "none", 2, 1
    seconds = 0.1

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2)

    def run(self, batch):
        self._barrier.wait(10)
        time.sleep(self.seconds)
        return np.zeros((len(batch.rows), 1), np.float32)


class Slow(PairTokenizer):
    """Takes a tenth of a second for the texts of each side."""

    def encode(self, texts):
        time.sleep(0.1)
        return super().encode(texts)


def test_a_run_with_two_callers_tells_when_the_engine_was_idle() -> None:
    tokenizer = Slow(word_tokenizer(), 12, "right")
    text = pa.array(["a", "b"])
    started = time.perf_counter()
    total = Statistics()
    for number in range(3):
        (scored,) = stream([Window(text, text, number)], tokenizer, Together(), 1)
        total.add(scored.statistics)
    seconds = time.perf_counter() - started
    assert total.engine_seconds >= 2 * 3 * 0.1
    assert 3 * 0.1 <= total.engine_busy_seconds <= seconds - 3 * 2 * 0.1
    figures = JobFigures(statistics=total, seconds=seconds, engine_callers=2)
    assert figures.engine_idle_share == pytest.approx(1 - total.engine_busy_seconds / seconds, abs=1e-4)
    assert figures.as_dict()["engine_idle_share"] == figures.engine_idle_share


def test_callers_that_take_turns_leave_no_idle_time() -> None:
    """Each of two is outside half of the time, and yet the engine is never idle."""
    busy, inside = Busy(), 0.0
    clock, own = 0.0, 0.0
    for _ in range(10):
        busy.enter(clock)
        clock += 1.0
        own += 1.0
        inside += busy.leave(clock)
    figures = JobFigures(
        statistics=Statistics(engine_seconds=own, engine_busy_seconds=inside), seconds=clock, engine_callers=2
    )
    assert figures.share_outside_engine == 0.5
    assert figures.engine_idle_share == 0.0
