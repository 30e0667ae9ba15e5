"""Work in a thread of its own: items made before they are needed, or results put away while others are made."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
_END = object()


def ahead(items: Generator[T, None, None], name: str, most: int = 1) -> Generator[T, None, None]:
    """Yield `items` in order. A thread called `name` makes them, at most `most` before they are needed.

    An error of `items` is raised at its place in the order. Closing waits for the item that is being made, drops it and
    closes `items`.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix=name)
    try:
        coming: deque[Future[T]] = deque(pool.submit(_next, items) for _ in range(most))
        while (item := coming.popleft().result()) is not _END:
            coming.append(pool.submit(_next, items))
            yield item
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        items.close()


@contextmanager
def behind(work: Callable[[T], None], name: str) -> Iterator[Callable[[T], None]]:
    """Yield a function that runs `work` in a thread called `name`, one call after the other, at most one call behind.

    After a call has failed, the next call raises its error and does nothing; so does leaving the block. If the block
    itself raises, it first waits for the call that is running.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix=name)
    last: list[Future[None]] = []

    def submit(item: T) -> None:
        if last:
            last.pop().result()
        last.append(pool.submit(work, item))

    try:
        yield submit
        if last:
            last.pop().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _next(items: Iterator[T]) -> T:
    return next(items, _END)  # type: ignore[return-value]  # compared by identity before anything else
