"""Work made ahead and put away behind: in order, bounded, errors in their place, nothing left running."""

import threading
import time
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscore.runtime.stream.background import ahead, behind


class Stop(BaseException):
    """As a signal or a lost machine."""


def numbers(count: int, fails: int | None, made: list[int], closed: list[str]) -> Generator[int, None, None]:
    try:
        for number in range(count):
            if number == fails:
                raise Stop(str(number))
            made.append(number)
            yield number
    finally:
        closed.append(threading.current_thread().name)


@given(count=st.integers(0, 8), fails=st.none() | st.integers(0, 8), most=st.integers(1, 4), taken=st.integers(0, 9))
def test_ahead_is_the_iterator_itself(count: int, fails: int | None, most: int, taken: int) -> None:
    """Against the obvious reference: no thread at all."""

    def take(items: Generator[int, None, None]) -> tuple[list[int], str | None]:
        got: list[int] = []
        try:
            for number in items:
                if len(got) == taken:
                    break
                got.append(number)
        except Stop as error:
            return got, str(error)
        finally:
            items.close()
        return got, None

    before = set(threading.enumerate())
    closed: list[str] = []
    made: list[int] = []
    assert take(ahead(numbers(count, fails, made, closed), "reader", most)) == take(numbers(count, fails, [], []))
    assert not set(threading.enumerate()) - before
    assert len(closed) == (1 if made or fails == 0 or count == 0 else 0)
    assert len(made) <= taken + 1 + most


def test_ahead_makes_items_in_its_own_thread_and_no_further() -> None:
    made: list[int] = []
    where: list[str] = []

    def items() -> Generator[int, None, None]:
        for number in range(10):
            where.append(threading.current_thread().name)
            made.append(number)
            yield number

    coming = ahead(items(), "reader")
    assert not made  # nothing before it is asked for
    assert next(coming) == 0
    wait_for(lambda: made == [0, 1])
    time.sleep(0.05)
    assert made == [0, 1]
    assert next(coming) == 1
    wait_for(lambda: made == [0, 1, 2])
    coming.close()
    assert {name.rpartition("_")[0] for name in where} == {"reader"}


@given(st.lists(st.integers(), max_size=8), st.none() | st.integers(0, 7))
def test_behind_does_everything_in_order_up_to_the_first_error(items: list[int], fails: int | None) -> None:
    done: list[int] = []

    def work(place_and_item: tuple[int, int]) -> None:
        place, item = place_and_item
        if place == fails:
            raise Stop(str(place))
        done.append(item)

    before = set(threading.enumerate())
    failing = fails is not None and fails < len(items)
    raised = None
    try:
        with behind(work, "writer") as put_away:
            for each in enumerate(items):
                put_away(each)
    except Stop as error:
        raised = str(error)
    assert raised == (str(fails) if failing else None)
    assert done == (items[:fails] if failing else items)
    assert not set(threading.enumerate()) - before


def test_behind_is_one_call_behind_and_no_more() -> None:
    gate, started = threading.Event(), []

    def work(number: int) -> None:
        started.append(number)
        assert gate.wait(10)

    with behind(work, "writer") as put_away:
        put_away(0)
        wait_for(lambda: started == [0])
        second = threading.Thread(target=put_away, args=(1,))
        second.start()
        time.sleep(0.05)
        assert second.is_alive()  # waits for the first
        assert started == [0]
        gate.set()
        second.join(10)
    assert started == [0, 1]


def test_an_error_in_the_block_waits_for_the_call_under_way() -> None:
    started: list[int] = []
    done: list[int] = []

    def work(number: int) -> None:
        started.append(number)
        time.sleep(0.1)
        done.append(number)

    def stopped() -> None:
        with behind(work, "writer") as put_away:
            put_away(1)
            wait_for(lambda: started)
            raise Stop

    with pytest.raises(Stop):
        stopped()
    assert done == [1]


def wait_for(condition) -> None:
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.001)
